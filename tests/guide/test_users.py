"""The guide's two tests, written anew: the same requests and the same assertions."""

from fastapi.testclient import TestClient

NEW_USER = {"email": "test@example.com", "username": "testuser", "password": "TestPass123"}


def test_create_user(client: TestClient) -> None:
    response = client.post("/api/v1/users/", json=NEW_USER)
    assert response.status_code == 201
    data = response.json()
    assert data["email"] == "test@example.com"
    assert "id" in data


def test_read_user(client: TestClient) -> None:
    create_response = client.post("/api/v1/users/", json=NEW_USER)
    user_id = create_response.json()["id"]

    # The guide's test sends no token, to an endpoint of the guide that asks for one.
    form = {"username": NEW_USER["email"], "password": NEW_USER["password"]}
    token = client.post("/api/v1/auth/login", data=form).json()["access_token"]

    response = client.get(f"/api/v1/users/{user_id}", headers={"Authorization": f"Bearer {token}"})
    assert response.status_code == 200
    data = response.json()
    assert data["id"] == user_id
