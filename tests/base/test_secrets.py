"""What looks like a key is masked; what does not is left as it is."""

import pytest

from claude_force.base.secrets import masked

LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"key sk-ant-api03-{LETTERS}, ok", "key [masked], ok"),
        (f"ghp_{LETTERS[:36]}", "[masked]"),
        (f"github_pat_{LETTERS}", "[masked]"),
        (f"glpat-{LETTERS[:20]}", "[masked]"),
        ("AKIAIOSFODNN7EXAMPLE", "[masked]"),
        (f"AIza{LETTERS[:35]}", "[masked]"),
        ("xoxb-1234567890-abcdef", "[masked]"),
        (f"sk_live_{LETTERS[:24]}", "[masked]"),
        (f"eyJ{LETTERS[:20]}.eyJ{LETTERS[:20]}.{LETTERS[:20]}", "[masked]"),
        ("-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----\nafter", "[masked]\nafter"),
        ("-----BEGIN PRIVATE KEY-----\ncut off", "[masked]"),
        ("postgres://me:s3cret@db.example/x", "postgres://[masked]@db.example/x"),
        (f"Authorization: Bearer {LETTERS[:30]}", "Authorization: Bearer [masked]"),
        ('api_key = "hunter2hunter2"', 'api_key = "[masked]"'),
        ("AWS_SECRET_ACCESS_KEY=wJalrXUtnFEMI7MDENG", "AWS_SECRET_ACCESS_KEY=[masked]"),
        ('{"password": "correct4horse"}', '{"password": "[masked]"}'),
    ],
)
def test_keys(text: str, shown: str) -> None:
    """Of each kind, with nothing around them lost."""
    assert masked(text) == shown


@pytest.mark.parametrize(
    "text",
    [
        "token = next_token(stream)",
        "max_tokens: 4096",
        "the password is wrong",
        "https://example.com:8080/a@b",
        "the secret of task-12 is its name",
        "sk-learn and ghp files",
        "passwords: at least 12 characters",
    ],
)
def test_ordinary_text(text: str) -> None:
    """Words that are about keys are none."""
    assert masked(text) == text


@pytest.mark.parametrize("text", ["secret_" * 40_000 + "a" * 200_000, "eyJ" * 60_000], ids=["a name", "a web token"])
def test_a_long_text_takes_no_time(text: str) -> None:
    """No form looks at a text more than once or so; these would take minutes."""
    assert masked(text) == text
