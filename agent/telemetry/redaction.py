"""Takes secrets out of text that people will read. Errs on the side of hiding."""

from __future__ import annotations

import re
from typing import Final

_MASK: Final = "***"
# Each pattern keeps its group 1 (what tells the reader what was there) and masks the rest.
_PATTERNS: Final = (
    re.compile(r"(\b[a-zA-Z][a-zA-Z0-9+.-]{1,20}://[^\s/@:]{0,100}:)[^\s/@]{1,300}(?=@)"),
    re.compile(r"(?i)(\b(?:bearer|basic|token|FlyV1)\s+)[A-Za-z0-9._~+/=,_-]{8,}"),
    re.compile(
        r"(?i)(\b[\w-]{0,40}(?:password|passwd|pwd|secret|token|api[_-]?key|authorization|credential)[\w-]{0,40}"
        r"[\"']?\s{0,3}[:=]\s{0,3}[\"']?)(?!\*\*\*|(?:bearer|basic|token|flyv1)\s)[^\s\"',;&}]{3,}"
    ),
    re.compile(r"()\beyJ[A-Za-z0-9_-]{5,}\.[A-Za-z0-9_-]{5,}\.[A-Za-z0-9_-]*"),
    re.compile(r"()\b(?:sk|pk|rk|ghp|gho|xox[abp])[-_][A-Za-z0-9_-]{12,}"),
    re.compile(r"()\b(?:AKIA|ASIA)[A-Z0-9]{12,}"),
    re.compile(r"()\bfm[12]_[A-Za-z0-9+/=_-]{12,}"),
    re.compile(r"()\bgaia_[a-z]+_[A-Za-z0-9]+_[A-Za-z0-9]{8,}"),
    re.compile(r"()-----BEGIN [A-Z ]{3,40}-----[\s\S]{0,10000}?(?:-----END [A-Z ]{3,40}-----|\Z)"),
)
_MAX_CHARS: Final = 16_384


def redact(text: str) -> str:
    """`text` without passwords, tokens and keys; cut at 16 Ki characters before it is looked at."""
    text = text[:_MAX_CHARS]
    for pattern in _PATTERNS:
        text = pattern.sub(rf"\g<1>{_MASK}", text)
    return text
