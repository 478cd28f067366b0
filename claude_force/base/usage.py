"""The tokens of one answer, in a module that loads no package: the simulator counts them as well."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Tokens of one answer. The prompt is the sum of the first four, as the API counts it."""

    input_tokens: int = 0
    """Prompt tokens that were neither written to nor read from the prompt cache."""
    cache_read_tokens: int = 0
    cache_write_5m_tokens: int = 0
    cache_write_1h_tokens: int = 0
    output_tokens: int = 0
    """All output, thinking included: what is billed."""
    thinking_tokens: int | None = None
    """The part of the output that was thinking, where the API says so."""
    inference_geo: str | None = None
    """Where the model ran, in the API's words, such as "us", where it says so: the price depends on it."""

    def __add__(self, other: "Usage") -> "Usage":
        """The tokens of both; thinking is unknown only where neither says, and the place where they are of two."""
        places = {usage.inference_geo for usage in (self, other) if usage.total_tokens}
        thinking = [t for t in (self.thinking_tokens, other.thinking_tokens) if t is not None]
        return Usage(
            input_tokens=self.input_tokens + other.input_tokens,
            cache_read_tokens=self.cache_read_tokens + other.cache_read_tokens,
            cache_write_5m_tokens=self.cache_write_5m_tokens + other.cache_write_5m_tokens,
            cache_write_1h_tokens=self.cache_write_1h_tokens + other.cache_write_1h_tokens,
            output_tokens=self.output_tokens + other.output_tokens,
            thinking_tokens=sum(thinking) if thinking else None,
            inference_geo=places.pop() if len(places) == 1 else None,
        )

    @property
    def prompt_tokens(self) -> int:
        """The whole prompt, cached or not; price bands go by it."""
        return self.input_tokens + self.cache_read_tokens + self.cache_write_5m_tokens + self.cache_write_1h_tokens

    @property
    def total_tokens(self) -> int:
        """Prompt and output."""
        return self.prompt_tokens + self.output_tokens
