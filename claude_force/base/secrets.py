"""Finds what looks like a key, a token or a password in a text, so that it is not written down a second time.

Only forms are known that hardly anything else has: a mask that hits ordinary text loses what somebody wanted to keep.
"""

import re

MASK = "[masked]"

_NAMED = r"(?:api[_-]?key|secret|token|passw(?:or)?d|pwd|credential|private[_-]?key)"
_FORMS = re.compile(
    "|".join(
        (
            r"sk-[A-Za-z0-9_-]{20,}",  # Anthropic, OpenAI
            r"gh[pousr]_[A-Za-z0-9]{30,}|github_pat_[A-Za-z0-9_]{40,}",
            r"glpat-[A-Za-z0-9_-]{20,}",
            r"(?:AKIA|ASIA)[A-Z0-9]{16}",
            r"AIza[A-Za-z0-9_-]{35}",
            r"xox[abprs]-[A-Za-z0-9-]{10,}",
            r"(?:sk|rk)_(?:live|test)_[A-Za-z0-9]{16,}",  # Stripe
            r"npm_[A-Za-z0-9]{36}|pypi-[A-Za-z0-9_-]{50,}|hf_[A-Za-z0-9]{30,}",
            r"eyJ[A-Za-z0-9_-]{10,1000}+\.eyJ[A-Za-z0-9_-]{10,}+\.[A-Za-z0-9_-]{10,}",  # a JSON web token
            r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)",
            r"(?<=://)[^\s/:@]{1,100}:[^\s/@]{1,200}(?=@)",  # a name and a password in a URL
            r"(?<=bearer )[A-Za-z0-9._~+/-]{20,}=*",
            # `api_key = "..."`: eight characters at least, with a digit, so that `token = next_token` stays.
            rf"(?P<name>\b\w{{0,40}}{_NAMED}\w{{0,40}}['\"]?\s*[:=]\s*['\"]?)(?=[^\s'\"]*\d)[^\s'\",;)}}\]]{{8,}}",
        )
    ),
    re.IGNORECASE | re.DOTALL,
)


def masked(text: str) -> str:
    """The text with `MASK` for each of them.

    Example:
        >>> masked("the key is sk-ant-api03-abcdefghijklmnopqrstuvwxyz")
        'the key is [masked]'
    """
    return _FORMS.sub(lambda found: (found["name"] or "") + MASK, text)
