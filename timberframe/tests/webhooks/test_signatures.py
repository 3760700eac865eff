"""Signatures of deliveries, verified by the reference library of Standard Webhooks."""

import base64
from datetime import UTC, datetime, timedelta

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from timberframe.webhooks.signatures import new_secret, signature_headers

BODY = '{"type": "product.created", "data": {"name": "Käse"}}'.encode()


def signed(*secrets: str, body: bytes = BODY, age: timedelta = timedelta()) -> dict[str, str]:
    return signature_headers(body, secrets, message_id="msg_17", sent_at=datetime.now(UTC) - age)


def test_signature_is_that_of_the_reference_library() -> None:
    """The vector that the specification's libraries are tested with."""
    headers = signature_headers(
        b'{"test": 2432232314}',
        ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"],
        message_id="msg_p5jXN8AQM9LWM0D4loKWxJek",
        sent_at=datetime.fromtimestamp(1614265330, UTC),
    )
    assert headers == {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }


def test_receiver_verifies_a_delivery() -> None:
    secret = new_secret()
    assert Webhook(secret).verify(BODY, signed(secret))["data"] == {"name": "Käse"}


def test_either_secret_verifies_while_one_is_being_replaced() -> None:
    new, old = new_secret(), new_secret()
    headers = signed(new, old)
    assert len(headers["webhook-signature"].split(" ")) == 2
    Webhook(new).verify(BODY, headers)
    Webhook(old).verify(BODY, headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(old).verify(BODY, signed(new))  # once it is replaced


@pytest.mark.parametrize(
    ("header", "value"), [("webhook-id", "msg_18"), ("webhook-timestamp", None)], ids=["id", "time"]
)
def test_other_id_or_time_is_refused(header: str, value: str | None) -> None:
    secret = new_secret()
    headers = signed(secret)
    Webhook(secret).verify(BODY, headers)
    headers[header] = value or str(int(headers[header]) + 1)
    with pytest.raises(WebhookVerificationError, match="No matching signature"):
        Webhook(secret).verify(BODY, headers)


def test_wrong_secret_or_changed_body_is_refused() -> None:
    secret = new_secret()
    headers = signed(secret)
    Webhook(secret).verify(BODY, headers)
    with pytest.raises(WebhookVerificationError, match="No matching signature"):
        Webhook(new_secret()).verify(BODY, headers)
    with pytest.raises(WebhookVerificationError, match="No matching signature"):
        Webhook(secret).verify(BODY.replace(b"created", b"deleted"), headers)


def test_old_delivery_is_refused() -> None:
    secret = new_secret()
    Webhook(secret).verify(BODY, signed(secret, age=timedelta(minutes=4)))
    with pytest.raises(WebhookVerificationError, match="too old"):
        Webhook(secret).verify(BODY, signed(secret, age=timedelta(minutes=6)))


def test_secrets_are_random_and_of_the_size_that_the_specification_asks_for() -> None:
    secrets = {new_secret() for _ in range(100)}
    assert len(secrets) == 100
    for secret in secrets:
        prefix, _, key = secret.partition("_")
        assert prefix == "whsec"
        assert 24 <= len(base64.b64decode(key, validate=True)) <= 64


@pytest.mark.parametrize("message_id", ["", "msg.17", "a b", "a\r\nb: c", "ä"])
def test_message_id_is_a_word(message_id: str) -> None:
    with pytest.raises(ValueError, match="message_id"):
        signature_headers(BODY, [new_secret()], message_id=message_id, sent_at=datetime.now(UTC))


def test_delivery_without_a_secret_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="secret"):
        signed()
