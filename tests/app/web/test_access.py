"""Log-in, tokens, roles and the audit log, through the real API over a real database."""

from __future__ import annotations

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine, select, update

from app.access import service
from app.access.schemas import MIN_PASSWORD, ROLES
from app.access.tables import AuditRow, TokenRow, UserRow
from app.db import reading, writing


def make_user(engine: Engine, name: str, role: str, password: str) -> None:
    """A user with this role."""
    with writing(engine) as session:
        session.add(UserRow(name=name, role=role, password_hash=service.HASHER.hash(password), created_at=1))


def log_in(web: TestClient, name: str, password: str) -> dict[str, str]:
    """The header that a session of this user sends."""
    answer = web.post("/api/v1/session", json={"name": name, "password": password})
    assert answer.status_code == 201, answer.text
    return {"Authorization": f"Bearer {answer.json()['token']}"}


def test_first_admin_gets_a_random_password_once(other_engine: Engine) -> None:
    """The first start makes a password nobody could have guessed, and shows it once."""
    first = service.ensure_admin(other_engine)
    assert first is not None
    assert len(first) >= MIN_PASSWORD
    assert service.ensure_admin(other_engine) is None


def test_nothing_is_readable_without_a_token(web: TestClient) -> None:
    """Every route of the API but log-in asks for a token; none forgot the guard."""
    document = web.get("/api/v1/openapi.json").json()
    open_routes = {"/api/v1/session", "/healthz", "/readyz"}
    asked = 0
    for path, methods in document["paths"].items():
        for method in set(methods) & {"get", "post", "put", "delete"}:
            if path in open_routes and method != "delete":
                continue
            answer = web.request(method, path.replace("{", "").replace("}", ""), json={})
            assert answer.status_code in {401, 422}, (method, path, answer.status_code)
            asked += answer.status_code == 401
    assert asked >= 15


def test_wrong_password_is_a_problem_in_both_languages(web: TestClient, engine: Engine) -> None:
    """A wrong password is answered as RFC 9457 says, in the language the browser asks for."""
    service.ensure_admin(engine)
    body = {"name": "admin", "password": "wrong"}
    answer = web.post("/api/v1/session", json=body)
    assert answer.status_code == 401
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["code"] == "wrong_credentials"
    chinese = web.post("/api/v1/session", json=body, headers={"Accept-Language": "zh-CN"}).json()
    assert chinese["title"] == "用户名或密码错误"
    assert chinese["code"] == answer.json()["code"]


def test_unknown_name_is_told_apart_by_nothing(web: TestClient, engine: Engine) -> None:
    """Whether a name exists is not told: the answers are the same."""
    service.ensure_admin(engine)
    unknown = web.post("/api/v1/session", json={"name": "nobody", "password": "wrong"})
    wrong = web.post("/api/v1/session", json={"name": "admin", "password": "wrong"})
    assert unknown.json() == wrong.json()


def test_five_wrong_passwords_lock_the_account(web: TestClient, engine: Engine) -> None:
    """After five failures even the right password waits."""
    password = service.ensure_admin(engine)
    for _ in range(service.MAX_FAILED):
        web.post("/api/v1/session", json={"name": "admin", "password": "wrong"})
    answer = web.post("/api/v1/session", json={"name": "admin", "password": password})
    assert answer.status_code == 429
    assert int(answer.headers["retry-after"]) > 0


def test_failed_log_ins_are_counted_and_audited(web: TestClient, engine: Engine) -> None:
    """A refused log-in leaves its trace although the request failed."""
    service.ensure_admin(engine)
    web.post("/api/v1/session", json={"name": "admin", "password": "wrong"})
    with reading(engine) as session:
        assert session.scalar(select(UserRow.failed_logins)) == 1
        assert "login_failed" in session.scalars(select(AuditRow.action)).all()


def test_log_out_ends_the_session(admin: TestClient) -> None:
    """A token is of no use once its session was ended."""
    assert admin.get("/api/v1/me").json()["role"] == "admin"
    assert admin.delete("/api/v1/session").status_code == 204
    assert admin.get("/api/v1/me").status_code == 401


def test_expired_token_is_refused(admin: TestClient, engine: Engine) -> None:
    """A token ends by itself."""
    with writing(engine) as session:
        session.execute(update(TokenRow).values(expires_at=1))
    assert admin.get("/api/v1/me").json()["code"] == "not_authenticated"


def test_tokens_are_stored_as_digests_only(admin: TestClient, engine: Engine) -> None:
    """Who reads the database cannot log in with what stands there."""
    issued = admin.post("/api/v1/tokens", json={"name": "mes", "permissions": ["read"]}).json()
    with reading(engine) as session:
        stored = [tuple(row) for row in session.execute(select(TokenRow.digest, TokenRow.name))]
    assert all(issued["token"] not in str(row) for row in stored)
    listed = admin.get("/api/v1/tokens").json()
    assert {t["name"] for t in listed} == {"mes", "login"}
    assert all("token" not in t for t in listed)


def test_api_token_may_do_only_what_it_was_made_for(admin: TestClient) -> None:
    """A reading token of an admin reads, and does nothing else."""
    issued = admin.post("/api/v1/tokens", json={"name": "mes", "permissions": ["read"]}).json()
    header = {"Authorization": f"Bearer {issued['token']}"}
    assert admin.get("/api/v1/pipelines", headers=header).status_code == 200
    refused = admin.post("/api/v1/events/x/acknowledge", json={}, headers=header)
    assert refused.status_code == 403
    assert refused.json()["code"] == "not_permitted"


def test_token_cannot_do_more_than_its_owner(web: TestClient, engine: Engine) -> None:
    """A viewer cannot make a token that configures."""
    make_user(engine, "lin", "viewer", "a long password")
    header = log_in(web, "lin", "a long password")
    answer = web.post("/api/v1/tokens", json={"name": "x", "permissions": ["configure"]}, headers=header)
    assert answer.status_code == 422
    assert answer.json()["code"] == "beyond_role"


def test_revoked_token_is_refused_and_foreign_ones_are_safe(web: TestClient, engine: Engine) -> None:
    """One revokes one's own tokens; another's look as if they were not there."""
    make_user(engine, "lin", "engineer", "a long password")
    make_user(engine, "wu", "engineer", "another password")
    lin, wu = log_in(web, "lin", "a long password"), log_in(web, "wu", "another password")
    issued = web.post("/api/v1/tokens", json={"name": "x", "permissions": ["read"]}, headers=lin).json()
    number = next(t["id"] for t in web.get("/api/v1/tokens", headers=lin).json() if t["name"] == "x")
    assert web.delete(f"/api/v1/tokens/{number}", headers=wu).status_code == 404
    assert web.delete(f"/api/v1/tokens/{number}", headers=lin).status_code == 204
    assert web.get("/api/v1/me", headers={"Authorization": f"Bearer {issued['token']}"}).status_code == 401


def test_new_password_ends_every_session(admin: TestClient, engine: Engine) -> None:
    """Whoever had the old password is out."""
    assert admin.get("/api/v1/me").json()["must_change_password"] is True
    wrong = admin.post("/api/v1/me/password", json={"current": "no", "new": "n" * MIN_PASSWORD})
    assert wrong.status_code == 401
    short = admin.post("/api/v1/me/password", json={"current": "no", "new": "short"})
    assert short.status_code == 422
    with writing(engine) as session:
        session.execute(update(UserRow).values(password_hash=service.HASHER.hash("the present one")))
    good = admin.post("/api/v1/me/password", json={"current": "the present one", "new": "n" * MIN_PASSWORD})
    assert good.status_code == 204
    assert admin.get("/api/v1/me").status_code == 401
    header = log_in(admin, "admin", "n" * MIN_PASSWORD)
    assert admin.get("/api/v1/me", headers=header).json()["must_change_password"] is False


def test_duties_are_separate(web: TestClient, engine: Engine) -> None:
    """The auditor reads the log and changes nothing; the admin does not read it."""
    make_user(engine, "audrey", "auditor", "a long password")
    make_user(engine, "root", "admin", "another password")
    auditor, admin = log_in(web, "audrey", "a long password"), log_in(web, "root", "another password")
    page = web.get("/api/v1/audit", headers=auditor).json()
    assert page["intact"] is True
    assert [entry["action"] for entry in page["items"]] == ["login", "login"]
    assert web.get("/api/v1/audit", headers=admin).status_code == 403
    assert web.post("/api/v1/events/x/acknowledge", json={}, headers=auditor).status_code == 403


def test_changed_audit_entry_breaks_the_chain(web: TestClient, engine: Engine) -> None:
    """Nobody rewrites the log unseen."""
    make_user(engine, "audrey", "auditor", "a long password")
    header = log_in(web, "audrey", "a long password")
    with writing(engine) as session:
        session.execute(update(AuditRow).values(who="somebody else"))
    assert web.get("/api/v1/audit", headers=header).json()["intact"] is False


@pytest.mark.parametrize("role", sorted(ROLES))
def test_every_role_reads(web: TestClient, engine: Engine, role: str) -> None:
    """There is no role that sees nothing."""
    make_user(engine, "x", role, "a long password")
    assert web.get("/api/v1/connections", headers=log_in(web, "x", "a long password")).status_code == 200


def test_disabled_user_is_out_at_once(web: TestClient, engine: Engine) -> None:
    """Disabling a user ends what sessions there are."""
    make_user(engine, "lin", "viewer", "a long password")
    header = log_in(web, "lin", "a long password")
    with writing(engine) as session:
        session.execute(update(UserRow).values(disabled=True))
    assert web.get("/api/v1/me", headers=header).status_code == 401
    assert web.post("/api/v1/session", json={"name": "lin", "password": "a long password"}).status_code == 401
