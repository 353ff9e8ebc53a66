"""What a secret looks like, as data: names that say so, the shapes of issued tokens, and values that are none.

The ideas are those of public scanners (detect-secrets, gitleaks); the patterns are written here. detect-secrets itself
was tried: it needs 170 microseconds a line and two packages for the network, and missed 8 of 15 planted lines.
"""

from __future__ import annotations

import re

QUOTE = "[\"'`]"


def _bounded(words: str) -> str:
    """Words that say something only where they stand alone in a name: `DB_PASS`, `dbPass`, not `bypass`."""
    small, capital, large = (
        "|".join(change(word) for word in words.split()) for change in (str.lower, str.capitalize, str.upper)
    )
    return (
        rf"(?<![^\W\d_])(?:{small})(?![^\W\d_A-Z])|(?:(?<=[a-z\d])|(?<![^\W\d_]))(?:{capital})(?![a-z])"
        rf"|(?<![^\W\d_])(?:{large})(?![^\W\d_])"
    )


# What only a person knows. Of these also a comparison, a call and a sentence tell the value.
PASSWORD = (
    r"(?i:pass_?(?:word|wd|phrase|wort|code)|contrase[nñ]a|mot[_ ]?de[_ ]?passe|kennwort|wachtwoord|l[oö]senord|пароль"
    r"|密码|密碼|口令|パスワード|비밀번호)|"
) + _bounded(
    "pass pwd pwds pswd psw pw passwds senha clave parola hasło haslo salasana heslo jelszó jelszo şifre sifre mdp"
)
# Names of a key that opens something; of `key` alone see KEY.
OPENING_KEY = (
    r"(?i:(?:access|account|aes|api|app|application|auth|cipher|client|consumer|cr[iy]pto?(?:graphy)?|decrypt(?:ion)?"
    r"|deploy|encrypt(?:ion)?|hmac|jwt|licen[sc]e|master|private|priv|secret|server|service|session|shared|sign(?:ing)?"
    r"|signature|ssh|storage|subscription|symmetric|webhook|wrapping)[_-]?key)"
)
OPENING_TOKEN = (
    r"(?i:(?:access|admin|api|app|auth|bearer|bot|csrf|deploy|device|discord|gh|github|gitlab|hf|id|jwt|npm|oauth2?"
    r"|personal|private|push|pypi|refresh|secret|security|service|session|slack|telegram|user|vault|webhook|xsrf)"
    r"[_-]?token)"
)
STRONG = (
    rf"{PASSWORD}|{OPENING_KEY}|{OPENING_TOKEN}|(?i:secret|credential|conn(?:ection)?_?str(?:ing)?|geheimnis|mnemonic|seed_?phrase)|"
    + _bounded("dsn")
)
# Names that are often about something else: the value must look like one as well.
WEAK = _bounded("token auth authorization bearer jwt otp pin salt")
KEY = _bounded("key keys iv nonce salt seed")
NAME = re.compile(rf"(?P<password>{PASSWORD})|(?P<strong>{STRONG})|(?P<weak>{WEAK})|(?P<key>{KEY})")
# What a name that goes on like this holds is no secret, but something about one.
ABOUT = re.compile(
    r"(?i)[_-]?(?:file|path|dir|url|uri|endpoint|host|port|type|kind|class|method|mode|name|field|label|header|prefix|suffix"
    r"|regexp?|pattern|format|help|err(?:or)?|exc|msg|message|prompt|hint|text|env|environ|var|column|param|arg|attr"
    r"|option|len(?:gth)?|size|count|min|max|policy|rule|valid|required|expir|ttl|age|time|date|issuer|audience|scope"
    r"|algo|provider|backend|module|view|form|page|route|template|icon|title|desc|doc|index|list_?id|iz|is[eh]|ator|state)"
)

# Shapes that say who issued a token; nothing else looks like these.
ISSUED = re.compile(
    r"\b(?:A3T[A-Z0-9]|A(?:KI|SI|BI|CC|RO|ID|GP|NP|NV|IP)A)[A-Z0-9]{16}\b"  # AWS
    r"|\bgh[oprsu]_\w{20,}|\bgithub_pat_\w{22,}|\bgl(?:agent|cbt|dt|ft|imt|ptt|pat|rt|soat)-[\w-]{20,}"
    r"|\bxox[abeoprs]-[\w-]{10,}|\bxapp-\d-[\w-]{10,}|\b(?:[prs]k|rk)_(?:live|test)_\w{10,}|\bwhsec_[\w+/=]{16,}"
    r"|\bsk-(?:[a-z]+-)*[\w-]{20,}|\bAIza[\w-]{35}|\bya29\.[\w-]{20,}|\bGOCSPX-[\w-]{20,}"
    r"|\bnpm_\w{30,}|\bpypi-[\w-]{16,}|\bhf_[A-Za-z]\w{20,}|\bSG\.[\w-]{16,}\.[\w-]{16,}|\b(?:AC|SK)[0-9a-f]{32}\b"
    r"|\bkey-[0-9a-zA-Z]{32}\b|\b[0-9a-f]{32}-us\d{1,2}\b|\b\d{8,10}:[\w-]{35}\b|\b[MNO][\w-]{23,25}\.[\w-]{6}\.[\w-]{27,}"
    r"|\beyJ[\w-]{10,}\.[\w-]{10,}|\bdo[opr]_v1_[0-9a-f]{32,}|\bshp(?:at|ca|pa|ss)_[0-9a-fA-F]{32}|\bsq0[a-z]{3}-[\w-]{20,}"
    r"|\bEAA[A-Za-z0-9]{30,}|\blin_api_\w{20,}|\bntn_\w{20,}|\bdapi[0-9a-f]{32}|\bdp\.(?:pt|st|ct)\.\w{20,}"
    r"|\bdckr_[a-z]{2,4}_[\w-]{20,}|(?<![\w~.-])[\w~.-]{3}\dQ~[\w~.-]{31,34}"
    r"|\bNRAK-\w{20,}|\bPMAK-[\w-]{20,}|\b\w{14}\.atlasv1\.[\w-]{20,}|\bhv[bsr]\.[\w-]{20,}|\bAGE-SECRET-KEY-1\w{20,}"
    r"|\$(?:1|2[abxy]|5|6|y|7|argon2\w*|scrypt|pbkdf2\w*)\$[\w./$=,+-]{20,}"  # how passwords are stored
)
# Text in which the value itself is the group `value`: it is held against what is no secret (HARMLESS) first.
TOLD = tuple(
    re.compile(pattern)
    for pattern in (
        r"[A-Za-z][\w+.-]*://[^\s/\"'`@:]*:(?!\d+(?:/|\b))(?P<value>[^\s\"'`@]+)@",
        r"[?&;](?i:(?:\w+[_-])?(?:token|key|secret|sig|signature|pass(?:word|wd)?|pwd|auth|apikey|code))="
        r"(?P<value>[^\s&\"'`#{}<>$]{4,})",
        r"\b(?i:basic|bearer)\s+(?P<value>(?=[\w.~+/=-]*\d)[\w.~+/=-]{8,})",
        r"(?i:authorization|x-\w+-(?:token|key))[\"']\s*[:,=]\s*[\"'](?P<value>(?=[\w.~+/=-]*\d)[\w.~+/=-]{8,})",
        r"(?<![\w-])--?(?i:pass(?:word|wd|phrase)?|pwd|secret|token|api-?key)[= ]\s*[\"']?"
        r"(?P<value>[^\s\"'<${\[|(]{3,})",
        r"\b(?:curl|wget|http)\b.*\s-u\s*[\"']?[\w.@-]+:(?P<value>[^\s\"']{3,})",
        r"\bsshpass\s+-p\s*[\"']?(?P<value>[^\s\"']{3,})|\bmysql\w*\b.*\s-p(?P<mysql>[^\s\"']{3,})",
        r"(?i:\bidentified\s+by|\bwith\s+password)\s+(?:password\s+)?[\"'](?P<value>[^\"']{3,})",
        r"(?i:\b(?:key|name)=[\"'][^\"']*(?:passw|pwd|secret|token|apikey)[^\"']*[\"']\s+value=[\"'])(?P<value>[^\"']{3,})",
        r"<(?i:[\w:.-]*(?:password|passwd|pwd|secret|token|apikey))>\s*(?P<value>[^<>{}$\s][^<>{}$]{2,})</",
        r"\b(?:Fernet|SecretStr|SecretBytes|SecretString|SecretKeySpec|hmac\.new|AES\.new|AESGCM|ChaCha20Poly1305)\(\s*"
        r"[bru]{0,2}[\"'](?P<value>[^\"']{4,})",
        r"[\"']-{0,2}(?i:[\w-]*(?:password|passwd|passphrase|pwd|secret|token|api[_-]?key))[\"'].*?\bdefault\s*=\s*"
        r"[bru]{0,2}[\"'](?P<value>[^\"']{3,})",
        r"\bjwt\.(?:encode|decode|sign|verify)\([^\"']*,\s*[bru]{0,2}[\"'](?P<value>[^\"']{4,})",
        r"(?:fromhex|unhexlify|b64decode|a2b_hex|a2b_base64|DecodeString|from_hex|atob)\(\s*b?[\"'](?P<value>[\w+/=]{16,})",
    )
)
# The same within a literal: a connection string.
CONNECTION = re.compile(
    r"(?i)\b(?:password|pwd|passwd|pass|secret|AccountKey|SharedAccessKey|SharedSecret)\s*=\s*"
    r"(?P<value>[^;&\s\"'`{}$<>%(),]{3,})"
)
LITERAL = r"[bBfFrRuUL@$]{0,2}(?P<quote>\"\"\"|'''|[\"'`])(?P<value>(?:\\.|(?!(?P=quote)).)*)"
# Who and the password for it, side by side.
PAIR = re.compile(
    rf"(?i:auth(?!or(?!iz))\w*|log_?(?:in|on)(?!fo)\w*|sign_?in\w*|credentials?|userpwd)\s*[=(:]\s*[(\[{{]*\s*"
    rf"(?:[bru]?(?P<first>{QUOTE})[^\"'`]*(?P=first)|[A-Za-z_][\w.\[\]]*)\s*,\s*{LITERAL}"
)
WEBHOOK = re.compile(r"(?i)https?://[^\s\"'`]*(?:hooks?\b|/services/)[^\s\"'`]*")
COMMENT = re.compile(r"#|//|/\*|^\s*[*;]|--|<!--|\"\"\"|'''|\bREM\b")
# A sentence that tells one: "the password for the database is ...".
SENTENCE = re.compile(
    rf"(?:{PASSWORD}|(?P<other>(?i:\b(?:pin|secret|token|key)\b)))(?:\s+(?!(?i:is|are|was)\b)[\w'/-]+){{0,4}}?\s*"
    r"(?P<how>\b(?i:(?:is|was)\s+(?:now|still|(?:changed\s+|re)?set\s+to|changed\s+to)|is|was|ist|est|es|são|är|é)\b"
    rf"|[:=→]|->)\s*(?P<quote>{QUOTE}?)(?P<value>[^\s\"'`]+)(?P<rest>.*)"
)
ACCOUNT = re.compile(r"(?i)\b(?:log ?in|credentials?|account|user)\b[^\"']{0,30}?[\w.@-]+\s*[/:]\s*(?P<value>\S+)")
# In languages whose values stand without quotes.
UNQUOTED = re.compile(r"[\w.-]*[\"']?\s*(?:=|:(?=\s|$))\s*(?P<value>[^\s#\"'{}$<>(\[|&*!][^\s#]*)")
BARE_LANGUAGES = frozenset(("bash", "yaml", "toml", "markdown", "plaintext", "sql", "html", "css"))

# Words of which a placeholder or the name of a field is made.
HARMLESS = frozenset((
    "a", "access", "account", "add", "admin", "again", "api", "app", "application", "arg", "argument", "auth",
    "authentication", "authorization", "bar", "basic", "basic_auth", "baz", "bearer", "change", "changeit",
    "changeme", "client", "code", "config", "confirm", "confirmation", "cookie", "credential", "credentials",
    "csrf", "current", "data", "database", "db", "default", "demo", "digest", "dummy", "email", "empty",
    "encryption", "enter", "env", "environment", "error", "example", "expired", "fake", "false", "field", "file",
    "fill", "fixme", "foo", "form", "from", "get", "hash", "header", "here", "hidden", "host", "http", "https",
    "id", "incorrect", "input", "insert", "invalid", "is", "it", "jwt", "key", "keys", "login", "mail", "masked",
    "me", "missing", "my", "n", "name", "new", "nil", "no", "none", "not", "null", "oauth", "of", "old", "optional",
    "param", "parameter", "pass", "passphrase", "passwd", "password", "passwords", "path", "phrase", "pin",
    "placeholder", "please", "private", "prod", "prompt", "public", "put", "pwd", "redacted", "refresh", "removed",
    "repeat", "replace", "request", "required", "reset", "retype", "salt", "sample", "secret", "secrets", "server",
    "service", "session", "set", "signature", "some", "string", "test", "text", "the", "this", "to", "todo",
    "token", "tokens", "true", "type", "undefined", "unset", "url", "use", "user", "username", "value", "verify",
    "web", "with", "wrong", "x", "xsrf", "xxx", "xxxx", "your",
))  # fmt: skip
WORDS_BEHIND_IS = frozenset((
    "a", "accepted", "already", "also", "an", "and", "are", "as", "asked", "at", "by", "changed", "checked",
    "compared", "correct", "cracked", "created", "current", "decoded", "different", "displayed", "empty", "encoded",
    "encrypted", "entered", "equal", "expired", "for", "generated", "given", "good", "hashed", "identical", "in",
    "incorrect", "invalid", "kept", "known", "left", "less", "long", "longer", "longest", "lost", "made", "masked",
    "matched", "missing", "more", "needed", "never", "no", "not", "now", "null", "ok", "on", "only", "optional",
    "or", "passed", "present", "printed", "prompted", "provided", "read", "ready", "redacted", "required",
    "returned", "reused", "right", "same", "saved", "sent", "set", "shorter", "shown", "similar", "specified",
    "stored", "strong", "supplied", "the", "then", "therefore", "this", "to", "too", "true", "unchanged", "unknown",
    "unset", "unused", "used", "valid", "verified", "weak", "what", "when", "wrong", "yet", "your", "zero",
))  # fmt: skip
