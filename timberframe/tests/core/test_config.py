"""Settings: what production refuses, how values may be written, and that no secret is printed."""

import secrets
from collections.abc import Callable
from pathlib import Path

import pytest

import timberframe.settings
from specimen.config import Settings

KEY = secrets.token_urlsafe(48)
PRODUCTION = {
    "ENVIRONMENT": "production",
    "SECRET_KEY": KEY,
    "ALLOWED_HOSTS": "api.example.com",
    "DATABASE_URL": f"postgresql://specimen:{secrets.token_urlsafe(24)}@db.example.com/specimen",
}

Load = Callable[..., Settings]
Refused = Callable[..., list[str]]


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Load:
    """Read the settings from these values alone."""
    for name in (*Settings.model_fields, "SECRETS_DIR"):
        monkeypatch.delenv(name, raising=False)

    def load_from(**values: str) -> Settings:
        for name, value in values.items():
            monkeypatch.setenv(name, value)
        return timberframe.settings.load(Settings)

    return load_from


@pytest.fixture
def refused(load: Load) -> Refused:
    """The lines that refuse these values."""

    def lines(**values: str) -> list[str]:
        with pytest.raises(SystemExit) as stop:
            load(**values)
        return str(stop.value).splitlines()

    return lines


@pytest.fixture
def env_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "my.env"
    monkeypatch.setenv("ENV_FILE", str(path))
    return path


def test_production_starts_with_a_random_key_and_known_hosts(load: Load) -> None:
    settings = load(**PRODUCTION)
    assert settings.is_production
    assert settings.SECRET_KEY.get_secret_value() == KEY


@pytest.mark.parametrize(
    "key",
    [
        "",
        "x",
        "Zq8vT2mXw4Lr9KpYc1Nd7HsJf3Gb6R0",  # one byte short
        "changeme" * 5,
        "ChangeThis-ChangeThis-ChangeThis-1",
        "please-replace-me-with-a-random-key",
        "your-secret-key-here-your-secret-key",
        "your_key_goes_here_your_key_goes_here",
        "placeholder-0123456789-0123456789",
        "this-is-an-example-0123456789-ABCDE",
        "supersecret-supersecret-supersecret",
        "x" * 64,
        "x" * 63 + "y",
        " " * 64,
        "abc" * 20,
        "admin123" * 4,
        "0123456789" * 4,
    ],
)
def test_production_refuses_a_weak_key(refused: Refused, load: Load, key: str) -> None:
    [line] = refused(**PRODUCTION | {"SECRET_KEY": key})
    assert line.startswith("SECRET_KEY: ")
    assert key not in line or len(key) < 2
    load(**PRODUCTION | {"SECRET_KEY": key, "ENVIRONMENT": "development"})


@pytest.mark.parametrize(
    ("key", "password"), [(KEY, KEY), (f"{KEY}/+", f"{KEY}%2F%2B")], ids=["plain", "escaped"]
)
def test_production_refuses_the_password_of_the_database_as_key(
    refused: Refused, key: str, password: str
) -> None:
    url = f"postgresql://specimen:{password}@db.example.com/specimen"
    assert refused(**PRODUCTION | {"SECRET_KEY": key, "DATABASE_URL": url}) == [
        "SECRET_KEY: must differ from the database's password"
    ]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ALLOWED_HOSTS", ""),
        ("ALLOWED_HOSTS", "*"),
        ("ALLOWED_HOSTS", "api.example.com, *"),
        ("ALLOWED_HOSTS", '["*"]'),
        ("ALLOWED_ORIGINS", "*"),
        ("ALLOWED_ORIGINS", "https://shop.example.com,*"),
        ("TRUSTED_PROXIES", "*"),
        ("TRUSTED_PROXIES", "10.0.0.1,*"),
    ],
)
def test_production_refuses_to_trust_everybody(
    refused: Refused, load: Load, name: str, value: str
) -> None:
    [line] = refused(**PRODUCTION | {name: value})
    assert line.startswith(f"{name}: must ")
    load(**PRODUCTION | {name: value, "ENVIRONMENT": "development"})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ENVIRONMENT", "prod"),
        ("PORT", "0"),
        ("PORT", "65536"),
        ("PORT", "http"),
        ("API_V1_PREFIX", "api"),
        ("API_V1_PREFIX", "/api/"),
        ("ALGORITHM", "none"),
        ("ALGORITHM", "RS256"),
        ("ACCESS_TOKEN_EXPIRE_MINUTES", "0"),
        ("SIGN_IN_FAILURES_PER_ACCOUNT", "-1"),
        ("LOG_LEVEL", "LOUD"),
        ("ALLOWED_HOSTS", "[not json"),
        ("ALLOWED_HOSTS", "[1, 2]"),
        ("ALLOWED_ORIGINS", "shop.example.com"),
        ("PUBLIC_URL", "api.example.com"),
        ("PUBLIC_URL", "https://api.example.com/"),
        ("PUBLIC_URL", "https://api.example.com>; x"),
        ("DATABASE_URL", "nonsense"),
        ("DATABASE_URL", "mysql://db.example.com/specimen"),
        ("DATABASE_URL", "postgresql+psycopg://db.example.com/specimen"),
        ("DATABASE_URL", "postgresql://db.example.com:port/specimen"),
        ("DATABASE_URL", "postgresql://db.example.com/specimen?sslmode=always"),
        ("DATABASE_URL", "postgresql://db.example.com/specimen?channel_binding=require"),
        ("DATABASE_URL", "sqlite://"),
        ("DATABASE_URL", "sqlite:///:memory:"),
        ("WEBHOOK_TIMEOUT_SECONDS", "0"),
        ("WEBHOOK_ALLOWED_NETWORKS", "internal.example.com"),
        ("WEBHOOK_ALLOWED_NETWORKS", "10.1.0.0/16,10.2.0.1/16"),
        ("WEBHOOK_ALLOWED_NETWORKS", '["10.1.0.0/16", ""]'),
        ("WEBHOOK_ALLOWED_NETWORKS", "[1]"),
        ("REDIS_URL", "http://cache.example.com"),
        ("REDIS_URL", "cache.example.com:6379"),
        ("REDIS_URL", "redis://cache.example.com:port"),
        ("SMTP_URL", "mail.example.com"),
        ("SMTP_URL", "smtp://"),
        ("SMTP_URL", "smtp://user:25#4@mail.example.com"),
        ("SMTP_URL", "smtp://user:25/4@mail.example.com"),
        ("SMTP_URL", "smtp://user:25?4@mail.example.com"),
        ("MAIL_FROM", "shop"),
        ("MAIL_FROM", "shop@example.com, eve@example.com"),
        ("MAIL_FROM", "Shop <shop@example.com"),
        ("MAIL_FROM", "shop@example.com\r\nBcc: eve@example.com"),
        ("MAIL_FROM", "Sh\u2028op <shop@example.com>"),
        ("MAIL_FROM", f"shop@{'x' * 64}.example.com"),
    ],
)
def test_bad_value_is_named_in_one_line(refused: Refused, name: str, value: str) -> None:
    [line] = refused(SECRET_KEY=KEY, **{name: value})
    assert line.startswith(f"{name}: ")


@pytest.mark.parametrize(
    ("typo", "hint"),
    [
        ("SECRET_KEEY", ", did you mean SECRET_KEY?"),
        ("DATABSE_URL", ", did you mean DATABASE_URL?"),
        ("ALLOWED_ORIGIN", ", did you mean ALLOWED_ORIGINS?"),
        ("redis_url", ", did you mean REDIS_URL?"),
        ("QQQ", ""),
    ],
)
def test_typo_in_env_file_is_named_with_the_nearest_right_name(
    refused: Refused, env_file: Path, typo: str, hint: str
) -> None:
    env_file.write_text(f"{typo}=canary\n")
    assert refused(SECRET_KEY=KEY) == [f"{typo}: unknown setting{hint}"]


def test_env_file_that_is_not_utf8_is_refused_in_one_line(refused: Refused, env_file: Path) -> None:
    env_file.write_bytes("PROJECT_NAME=Café\n".encode("latin-1"))
    assert len(refused(SECRET_KEY=KEY)) == 1


def test_each_setting_at_fault_has_a_line_of_its_own(refused: Refused, env_file: Path) -> None:
    env_file.write_text("ENVIRONMENT=production\nALLOWED_ORIGINS=*\nSECRET_KEEY=canary\nPORT=0\n")
    lines = refused(REDIS_URL="http://cache.example.com")
    names = [line.partition(": ")[0] for line in lines]
    assert sorted(names) == [
        "ALLOWED_HOSTS",
        "ALLOWED_ORIGINS",
        "PORT",
        "REDIS_URL",
        "SECRET_KEEY",
        "SECRET_KEY",
    ]


@pytest.mark.parametrize(
    "values",
    [
        {"SECRET_KEY": "canary"},
        {"SECRET_KEY": "canary-change-me-canary-change-me"},
        {"DATABASE_URL": "mysql://specimen:canary@db.example.com/specimen"},
        {"DATABASE_URL": "canary"},
        {"DATABASE_URL": "postgresql://specimen:canary@db.example.com:port/specimen"},
        {"DATABASE_URL": "postgresql://specimen:p@ss:canary@db.example.com/specimen"},
        {"DATABASE_URL": "postgresql://specimen:p@ss?canary=1@db.example.com/specimen"},
        {"REDIS_URL": "http://:canary@cache.example.com"},
        {"SMTP_URL": "http://mailer:canary@mail.example.com"},
    ],
)
def test_refusal_does_not_print_the_secret(refused: Refused, values: dict[str, str]) -> None:
    assert "canary" not in "\n".join(refused(**PRODUCTION | values))


def test_settings_do_not_print_their_secrets(load: Load) -> None:
    canary = secrets.token_urlsafe(40)
    settings = load(
        SECRET_KEY=canary,
        DATABASE_URL=f"postgresql://specimen:{canary}@db.example.com/specimen",
        REDIS_URL=f"redis://:{canary}@cache.example.com",
        SMTP_URL=f"smtp://mailer:{canary}@mail.example.com",
    )
    for printed in (repr(settings), str(settings), str(settings.model_dump())):
        assert canary not in printed
    assert canary not in settings.model_dump_json()


@pytest.mark.parametrize(
    "written", ["a.example,b.example", " a.example , b.example, ", '["a.example", "b.example"]']
)
def test_list_is_written_with_commas_or_as_json(load: Load, written: str) -> None:
    settings = load(SECRET_KEY=KEY, ALLOWED_HOSTS=written, TRUSTED_PROXIES=written)
    assert settings.ALLOWED_HOSTS == ["a.example", "b.example"]
    assert settings.TRUSTED_PROXIES == ["a.example", "b.example"]


@pytest.mark.parametrize(
    ("written", "used"),
    [
        ("postgresql://u:p@db/specimen", "postgresql+asyncpg://u:p@db/specimen"),
        ("postgres://u:p%40@db:5432/specimen", "postgresql+asyncpg://u:p%40@db:5432/specimen"),
        ("postgresql+asyncpg://db/specimen", "postgresql+asyncpg://db/specimen"),
        ("sqlite:///./specimen.db", "sqlite+aiosqlite:///./specimen.db"),
        ("sqlite+aiosqlite:////srv/specimen.db", "sqlite+aiosqlite:////srv/specimen.db"),
    ],
)
def test_database_url_needs_no_driver(load: Load, written: str, used: str) -> None:
    settings = load(SECRET_KEY=KEY, DATABASE_URL=written)
    assert settings.DATABASE_URL.get_secret_value() == used


@pytest.mark.parametrize(
    "value",
    [
        "specimen@localhost",
        "Müller's Shop <shop@bücher.example>",
        '"Shop, Ltd." <shop@example.com>',
    ],
)
def test_sender_may_have_a_name_and_any_letters(load: Load, value: str) -> None:
    assert value == load(SECRET_KEY=KEY, MAIL_FROM=value).MAIL_FROM


def test_environment_goes_before_env_file_and_that_before_secrets_folder(
    load: Load, env_file: Path, tmp_path: Path
) -> None:
    for name in ("PROJECT_NAME", "VERSION", "DESCRIPTION"):
        (tmp_path / name).write_text("from folder\n")
    env_file.write_text("PROJECT_NAME=from file\nVERSION=from file\n")
    settings = load(SECRET_KEY=KEY, SECRETS_DIR=str(tmp_path), PROJECT_NAME="from environment")
    assert settings.PROJECT_NAME == "from environment"
    assert settings.VERSION == "from file"
    assert settings.DESCRIPTION == "from folder"


def test_development_without_a_key_makes_a_random_one_and_warns_once(
    load: Load, capsys: pytest.CaptureFixture[str]
) -> None:
    key = load().SECRET_KEY.get_secret_value()
    assert len(key) >= 32
    assert capsys.readouterr().err == "SECRET_KEY is not set: tokens are invalid after a restart\n"
    # Worker processes, which inherit the environment, use the same one.
    assert load().SECRET_KEY.get_secret_value() == key
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("level", ["debug", "Info", "WARNING"])
def test_case_of_the_log_level_does_not_matter(load: Load, level: str) -> None:
    assert level.upper() == load(LOG_LEVEL=level).LOG_LEVEL
