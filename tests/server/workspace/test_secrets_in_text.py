"""Lines that are withheld from prompts of other files: lines with secrets of every kind, and no ordinary code."""

from __future__ import annotations

import random
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from midspan.server.workspace.secrets_in_text import MAX_CHARS, may_hold_secret, without_secrets

# The forms are those that scanners know, the values are made up.
HELD_BACK = r"""
DB_PASS = "swordfish"
pwd = "swordfish"
requests.get(url, auth=("admin", "swordfish"))
requests.get(url, auth=HTTPBasicAuth("admin", "swordfish"))
engine = create_engine("postgresql://admin:swordfish@db/prod")
os.environ.setdefault("DB_PASSWORD", "swordfish")
config.set("db", "password", "swordfish")
settings.setValue("password", "swordfish")
encryption_key = "swordfish"
ENCRYPTION_KEY = b"swordfish"
key = b"\x13\x9a\x77\x01\x13\x9a\x77\x01"
SECRET = b"\x13ab\x99"
material = b"\x8f\x1a\x02\x99\x13\x9a\x77\x01\x8f\x1a\x02\x99\x13\x9a\x77\x01"
key = bytes.fromhex("139a7701139a7701139a7701139a7701")
dsn = "postgres://admin:swordfish@db"
redis_url = "redis://:swordfish@localhost:6379/0"
smtp.login("admin", "swordfish")
smtp.login(user, "swordfish7")
session.auth = ("admin", "swordfish")
CREDENTIALS = ("admin", "swordfish")
os.environ["DB_PASS"] = "swordfish"
config['smtp']['password'] = 'swordfish'
# production password is swordfish7
# the production password is swordfish
// pw: swordfish7
# login: admin / swordfish7
hook = "https://hooks.example.com/services/T024BE7LD/B024/abcd1234efgh?x"
url = "https://example.com/webhook?token=abcd1234"
requests.post("https://chat.example.com/hooks/abc123def456?wait=true")
connect(user="me", passwort="swordfish")
contraseña = "swordfish"
senha = "swordfish"
mot_de_passe = 'swordfish'
kennwort = "swordfish"
пароль = "swordfish"
parser.add_argument("--password", default="swordfish")
parser.add_argument('--api-key', help="which key to use", default='swordfish')
mnemonic = "abandon ability able about above absent absorb abstract absurd abuse access accident"
pwds = {"a": "swordfish"}
password = "hunter"
DB_PASSWORD: str = 'a b'
config["api_key"] = "abc"
"auth_token": "abc",
connect(user="me", passwd="abc")
dbPass := "swordfish"
const dbPassword = 'swordfish';
private static final String PASSWORD = "swordfish";
#define DB_PASS "swordfish"
define('DB_PASSWORD', 'swordfish');
'password' => 'swordfish',
:password => "swordfish"
let password: &str = "swordfish";
const API_KEY: &'static str = "swordfish";
password = os.getenv("DB_PASS", "swordfish")
password = os.environ.get("DB_PASS") or "swordfish"
const secret = process.env.SECRET || "swordfish";
if password == "swordfish":
if (password.equals("swordfish")) {
setPassword("swordfish")
x = {"passphrase": "correct horse battery staple"}
user, password = "admin", "swordfish"
def connect(host, password="swordfish"):
token = "b6d1f0c29a8e4f7db6d1f0c29a8e4f7d"
x = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
value = "Zm9vYmFyMTIzNDU2Nzg5MGFiY2RlZg=="
id = "550e8400-e29b-41d4-a716-446655440000"
headers = {"Authorization": "Bearer abcdef123456"}
headers = {"Authorization": "Basic YWRtaW46aHVudGVyMg=="}
"Server=db;User Id=sa;Password=swordfish;"
conn = psycopg2.connect("dbname=prod user=admin password=swordfish")
os.system("mysql -u root -pswordfish prod")
subprocess.run("curl -u admin:swordfish https://x")
cmd = "tool --password=swordfish"
f = Fernet(b"swordfish1234=")
t = jwt.encode(payload, "swordfish")
CREATE USER x IDENTIFIED BY 'swordfish';
<password>swordfish</password>
hash = "$2b$12$abcdefghijklmnopqrstuv1234567890abcdefghij"
API_SECRET: Final = "swordfish"
os.environ.update({"DB_PASS": "swordfish"})
<add key="Password" value="swordfish"/>
<user name="x" password="swordfish"/>
"pwd": "swordfish",
pass: "swordfish",
const { password = "swordfish" } = options;
password ??= "swordfish";
var pw string = "swordfish"
$password = "swordfish";
my $pass = 'swordfish';
val apiKey: String = "swordfish"
NSString *password = @"swordfish";
password = r'swordfish'
password = (b'swordfish')
password = f"{x}swordfish"
self.assertEqual(password, "swordfish")
session.post(url, data={"user": "a", "pass": "swordfish"})
boto3.client("s3", aws_secret_access_key="swordfish", aws_access_key_id="y")
GraphDatabase.driver(uri, auth=("neo4j", "swordfish"))
url = "mongodb+srv://user:p%40ss1@host/db"
keyring.set_password("svc", "user", "swordfish")
SECRETS = ["swordfish", "b"]
# user: admin pass: hunter2
# pw=hunter2
'''Default password: hunter2'''
# pass is hunter2
print("password: hunter2")
password = base64.b64decode("c3dvcmRmaXNo")
env["PGPASSWORD"] = "swordfish"
os.environ['MYSQL_PWD'] = 'swordfish'
client.authenticate("admin", "swordfish")
client.login(username="admin", password="swordfish")
r = requests.post(u, headers={"X-Api-Key": "swordfish77"})
headers = {"Authorization": f"token {'abc'}", "PRIVATE-TOKEN": "swordfish77"}
auth = HTTPDigestAuth('admin', 'swordfish')
cookie = "sessionid=38afes7a8b1c2d3e4f5a6b7c8d9e0f1a"
app.secret_key = b'_5#y2L"F4Q8z\n\xec]/'
SECRET_KEY = os.environ.get("SECRET_KEY", "swordfish")
db = "mysql://root:swordfish@tcp(localhost:3306)/x"
jdbc = "jdbc:mysql://host/db?user=root&password=swordfish"
sqlalchemy.url = postgresql://scott:tiger7@localhost/test
encryption_key: bytes = b"0123456789abcdef"
iv = b"\x01\x9a\x77\x01\x13\x9a\x77\x41"
masterKey = "swordfish"
license_key = "AAAA-BBBB-CCCC-1234"
# the root password was changed to swordfish
# Passwort: geheim123
// mot de passe : swordfish
// TODO remove: secret is "swordfish"
user = "admin"; passwd = "swordfish"
otp_secret = "JBSWY3DPEHPK3PXP"
lösenord = "swordfish"
""".strip().splitlines()
ISSUED = [
    f'KEY = "ghp_{"planted0" * 4}"',
    f"call(url, 'AKIA{'PLANTED0' * 2}')",
    f'slack = "xoxb-{"1234567890" * 2}"',
    f'stripe = "sk_live_{"planted2" * 3}"',
    f'x = "eyJhbGciOiJIUzI1NiJ9.{"eyJzdWIiOiIx" * 2}"',
    f"# glpat-{'planted-' * 4}",
    f"x = 'dckr_pat_{'planted' * 4}'",
    f"x = 'abc8Q~{'planted' * 5}'",
    f'google("AIza{"planted" * 5}")',
]
SHOWN = r"""
password = getpass()
password = getpass.getpass("Password: ")
password = os.environ["DB_PASSWORD"]
password = os.environ.get("DB_PASSWORD")
password = ""
password = "changeme"
password = "xxx"
password = "<password>"
password = "{password}"
api_key = config["api_key"]
api_key = os.getenv("API_KEY")
f"postgres://{user}:{password}@{host}"
"postgres://user:password@host"
parser.add_argument("--password", help="the password to use")
parser.add_argument("--password", default="")
parser.add_argument("--token", help="the token to use", default="none")
token = "we ask for the name of the user and then for the word of the house"
PASSWORD_FIELD = "password"
password_label = "Enter your password"
"password": forms.CharField(label="Password")
raise AuthError("wrong password for user")
def authenticate(self, user, password):
auth = request.headers.get("Authorization")
token = ""
token = "IDENT"
token = self.next_token("NAME")
if token == other:
if token.type == "OPERATOR":
self.assertEqual(token, "abc")
return self.tokens[-1]
tokens = tokenize(text)
key = "name"
for key, value in items.items():
passed = "yes"
bypass = "abc"
compass = "north"
author = "somebody"
authors = ["one", "two"]
raise ValueError("a long message with 20 words in it")
name = "a_long_name_without_figures"
x = "1234"
url = "http://localhost:8080/path"
path = "/usr/local/lib/python3.11/site-packages"
x = "django.contrib.auth.backends.ModelBackend"
alphabet = "abcdefghijklmnopqrstuvwxyz0123456789"
# the password is required
# the token is used to find the user
date = "2024-01-01T00:00:00+00:00"
url = "https://docs.python.org/3/library/secrets.html"
padding = b"\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
""".strip().splitlines()


@pytest.mark.parametrize("line", [*HELD_BACK, *ISSUED])
def test_a_line_that_may_hold_a_secret_is_withheld(line: str) -> None:
    assert may_hold_secret(line)


@pytest.mark.parametrize("line", SHOWN)
def test_other_lines_are_shown(line: str) -> None:
    assert not may_hold_secret(line)


NAMES = ["password", "db_password", "DB_PASS", "dbPass", "passphrase", "secret", "clientSecret", "api_key", "apiKey",
         "ENCRYPTION_KEY", "access_token", "credentials", "dsn", "pwd", "passwort", "senha", "contraseña"]  # fmt: skip
FORMS = [
    "{name} = {value}", "{name}={value},", "self.{name}: str = {value}", '"{name}": {value},', "{name}: {value},",
    'environ["{name}"] = {value}', 'setdefault("{name}", {value})', "const {name} = {value};", "{name} := {value}",
    'get("{name}", {value})', "'{name}' => {value},", "f(1, {name}={value}, x=2)", "{name} = x or {value}",
]  # fmt: skip
VALUES = st.text(string.ascii_letters + string.digits + "!$%&()*+,-./:;?@^_~ ", min_size=6, max_size=30)


@given(st.sampled_from(NAMES), st.sampled_from(FORMS), VALUES, st.sampled_from("\"'"))
def test_values_of_secret_names_are_withheld_in_every_form(name: str, form: str, value: str, quote: str) -> None:
    # The value has a digit and a letter in one word, unlike placeholders, paths and sentences.
    line = form.format(name=name, value=f"{quote}q7{value.strip(' ./~')}z9{quote}")
    if len(value.split()) < 3 and "://" not in value and "$" not in value and "%" not in value:
        assert may_hold_secret(line)


RANDOM = st.text(string.ascii_letters + string.digits, min_size=32, max_size=64)


@given(st.integers(0, 10_000), st.integers(32, 64), st.sampled_from([string.hexdigits[:16], "base64"]))
def test_random_literals_are_withheld(seed: int, size: int, alphabet: str) -> None:
    # A separate generator, as the values of hypothesis are not uniformly random.
    letters = string.ascii_letters + string.digits if alphabet == "base64" else alphabet
    text = "".join(random.Random(seed).choices(letters, k=size))
    if sum(letter.isdigit() for letter in text) >= 4 and not text.isdigit():
        assert may_hold_secret(f'x = "{text}"')


@given(st.text(max_size=200))
def test_any_text_has_an_answer(line: str) -> None:
    may_hold_secret(line)
    assert set(without_secrets(line.split("\n"), "yaml")) <= set(line.split("\n"))


PICTURES = {
    "a value on the next line": """
        password = (
      -     "swordfish"
      -     "and more"
        )
        x = "plain"
    """,
    "a value behind a backslash": """
        API_KEY = \\
      -     "swordfish"
        x = "plain"
    """,
    "an entry": """
        "password":
      -     "swordfish",
        "x": "plain",
    """,
    "arguments": """
        config.set(
            "db",
            "password",
      -     "swordfish",
            "plain",
        )
    """,
    "entries": """
        API_KEYS = {
      -     "prod": "swordfish",
            "dev": "changeme",
      -     "test": "catfish77",
        }
        x = "plain"
    """,
    "settings in a literal": """
        ENVIRONMENT = '''
      - DB_PASSWORD=swordfish
        DB_HOST=somewhere7
      -   password: swordfish7
          password: as told
        '''
        DB_PASSWORD=swordfish7
    """,
    "a long literal": """
      - PRIVATE_KEY = '''
      - one
      - two
      - '''
        x = "plain"
    """,
    "a docstring is none": '''
        def login(self, password):
            """Log in."""
        def f(pwd):
            """Log in.

            And stay so.
            """
    ''',
    "placeholders": """
        password = (
            "changeme"
        )
    """,
}


@pytest.mark.parametrize("name", PICTURES)
def test_secrets_that_span_lines_are_withheld(name: str) -> None:
    lines = [line[8:] for line in PICTURES[name].splitlines()[1:-1]]
    marked = [line[6:7] == "-" for line in PICTURES[name].splitlines()[1:-1]]
    kept = [line for line, mark in zip(lines, marked, strict=True) if not mark]
    assert list(without_secrets(lines, "python")) == kept


@pytest.mark.parametrize(
    ("language", "line", "held"),
    [
        ("yaml", "password: swordfish", True),
        ("yaml", "  db_password: swordfish7 # here", True),
        ("bash", "export DB_PASS=swordfish", True),
        ("python", "password = swordfish", False),
        ("yaml", "password: ${PASSWORD}", False),
        ("yaml", "password: changeme", False),
        ("toml", "password = swordfish7", True),
        ("bash", "PGPASSWORD=swordfish psql -h db", True),
    ],
)
def test_values_without_quotes_in_languages_that_have_them(language: str, line: str, held: bool) -> None:
    assert may_hold_secret(line, language) == held


def test_a_block_of_a_configuration() -> None:
    lines = ["password: |", "  swordfish", "name: plain"]
    assert without_secrets(lines, "yaml") == ("password: |", "name: plain")


def test_a_line_that_is_too_long_is_withheld() -> None:
    assert may_hold_secret("x" * (MAX_CHARS + 1))
    assert not may_hold_secret("x" * MAX_CHARS)
