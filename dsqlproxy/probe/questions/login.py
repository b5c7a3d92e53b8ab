"""Questions about the way in: TLS, the token, what is said until a session is ready."""

import asyncio
from collections.abc import Mapping
from typing import Final

from dsqlproxy.dsql import MAX_TOKEN_LIFETIME_SECONDS, MIN_TOKEN_LIFETIME_SECONDS
from dsqlproxy.errors import ProtocolError, UpstreamUnavailable
from dsqlproxy.pgproto.codes import BackendType
from dsqlproxy.pgproto.framing import Frame
from dsqlproxy.pgproto.messages import (
    Authentication,
    BackendKeyData,
    NegotiateProtocolVersion,
)
from dsqlproxy.pgproto.startup import PROTOCOL_3_2, StartupMessage
from dsqlproxy.probe.cluster import Cluster, LoginAttempt
from dsqlproxy.probe.question import Question
from dsqlproxy.probe.reply import parameters_of, types_of
from dsqlproxy.probe.report import Answer, Evidence
from dsqlproxy.probe.trials import TRIALS
from dsqlproxy.upstream.encryption import Way

NOBODY: Final = "dsqlproxy_probe_nobody"
"""A role that no cluster has."""

_SHOWN_BYTES: Final = 32
"""Of an authentication request: a list of SASL mechanisms may follow the code."""

_OPTIONS: Final[Mapping[str, Mapping[str, str]]] = {
    "-c statement_timeout=60s": {"options": "-c statement_timeout=60s"},
    "-c default_transaction_read_only=off": {
        "options": "-c default_transaction_read_only=off"
    },
    "-c work_mem=4MB": {"options": "-c work_mem=4MB"},
    "-c dsqlproxy.probe=1": {"options": "-c dsqlproxy.probe=1"},
    "-c no_such_setting=1": {"options": "-c no_such_setting=1"},
    "lock_timeout=60s as a parameter": {"lock_timeout": "60s"},
    "no_such_setting=1 as a parameter": {"no_such_setting": "1"},
}


async def _tls(cluster: Cluster) -> Answer:
    told: dict[str, str] = {}
    good = []
    for way in Way:
        try:
            async with cluster.secured(way=way) as line:
                tls = line.channel.tls
                version = tls.version if tls else None
                told[way.value] = (
                    f"{version}, ALPN {line.channel.alpn or 'none'}, "
                    f"{line.age_seconds:.3f} s"
                )
                good.append(way.value)
        except UpstreamUnavailable as error:
            told[way.value] = f"{error.message}. {error.detail}"
    if not good:
        raise UpstreamUnavailable("; ".join(told.values()))
    return Answer(" and ".join(good), {"ways": told})


async def _authentication(cluster: Cluster) -> Answer:
    async with cluster.attempt() as attempt:
        took = attempt.line.age_seconds if attempt.line else None
    requests = [one for one in attempt.heard if one.type == BackendType.AUTHENTICATION]
    if not requests:
        raise attempt.failure or ProtocolError("nothing was asked for")
    codes = [Authentication.decode(one.body).code for one in requests]
    return Answer(
        f"code {codes[0]}",
        {
            "codes": [str(code) for code in codes],
            "body lengths": [str(len(one.body)) for one in requests],
            "bodies": [one.body[:_SHOWN_BYTES].hex() for one in requests],
            "types until ready": types_of(attempt.heard),
            "outcome": attempt.said,
            "seconds": None if took is None else round(took, 3),
        },
    )


async def _parameter_status(cluster: Cluster) -> Answer:
    async with cluster.session() as line:
        reported = parameters_of(line.greeting)
    has_path = "search_path" in {name.lower() for name in reported}
    return Answer(
        "search_path is reported" if has_path else "search_path is not reported",
        {"count": len(reported), "reported": reported},
    )


async def _key_data(cluster: Cluster) -> Answer:
    async with cluster.session() as line:
        reply = await line.run("SELECT pg_catalog.pg_backend_pid()")
        key = line.key
    evidence: dict[str, Evidence] = {"pg_backend_pid()": reply.verdict}
    if key is None:
        return Answer("absent", evidence)
    evidence["key bytes"] = len(key.secret_key)
    evidence["key is all zeros"] = not any(key.secret_key)
    evidence["process id is zero"] = key.process_id == 0
    if reply.error is None:
        is_pid = reply.value() == str(key.process_id)
        evidence["process id is pg_backend_pid()"] = is_pid
    return Answer("present", evidence)


async def _newer_protocol(cluster: Cluster) -> Answer:
    async with cluster.attempt(cluster.startup(version=PROTOCOL_3_2)) as attempt:
        evidence = _negotiation(attempt)
    offer = _offer(attempt)
    if offer is not None:
        return Answer(f"{offer.version.major}.{offer.version.minor}", evidence)
    return Answer("3.2" if attempt.line is not None else attempt.verdict, evidence)


async def _protocol_option(cluster: Cluster) -> Answer:
    asked = cluster.startup(parameters=(("_pq_.dsqlproxy_probe", "1"),))
    async with cluster.attempt(asked) as attempt:
        evidence = _negotiation(attempt)
    offer = _offer(attempt)
    if offer is not None:
        word = "named" if offer.unknown_options else "not named"
        return Answer(f"negotiated, {word}", evidence)
    return Answer(attempt.verdict, evidence)


async def _startup_options(cluster: Cluster) -> Answer:
    verdicts: dict[str, str] = {}
    text = ""
    for name, parts in _OPTIONS.items():
        rest = tuple(pair for pair in parts.items() if pair[0] != "options")
        asked = cluster.startup(options=parts.get("options", ""), parameters=rest)
        async with cluster.attempt(asked) as attempt:
            verdicts[name] = attempt.verdict
            text = text or ("" if attempt.line is not None else attempt.said)
    different = sorted(set(verdicts.values()))
    return Answer(" or ".join(different), {"each": verdicts, "first text": text})


async def _startup_settings(cluster: Cluster) -> Answer:
    asked = cluster.startup(parameters=tuple(TRIALS.items()))
    async with cluster.attempt(asked) as attempt:
        if attempt.line is None:
            return Answer(attempt.verdict, {"text": attempt.said})
        others = []
        for name, value in TRIALS.items():
            sql = f"SELECT pg_catalog.current_setting('{name}', true)"
            found = (await attempt.line.run(sql)).value()
            if found != value:
                others.append(f"{name} is {found!r}")
    word = "accepted" if not others else "accepted, not all as given"
    return Answer(word, {"not as given": others})


async def _other_server_name(cluster: Cluster) -> Answer:
    async with cluster.secured():
        pass  # the right name works: what follows is because of the wrong one
    try:
        attempt = await cluster.knock(server_name=cluster.other_server_name())
    except UpstreamUnavailable as error:
        return Answer("no TLS", {"text": f"{error.message}. {error.detail}"})
    return Answer(
        attempt.verdict, {"types": types_of(attempt.heard), "text": attempt.said}
    )


async def _long_token(cluster: Cluster) -> Answer:
    token = await cluster.token(claimed_seconds=MAX_TOKEN_LIFETIME_SECONDS + 1)
    return await _with_token(cluster, cluster.startup(), token)


async def _expired_token(cluster: Cluster) -> Answer:
    token = await cluster.token(lifetime_seconds=MIN_TOKEN_LIFETIME_SECONDS)
    await asyncio.sleep(cluster.pace.expire_seconds)
    return await _with_token(cluster, cluster.startup(), token)


async def _unknown_role(cluster: Cluster) -> Answer:
    token = await cluster.token(role=NOBODY)
    return await _with_token(cluster, cluster.startup(role=NOBODY), token)


async def _with_token(cluster: Cluster, startup: StartupMessage, token: str) -> Answer:
    async with cluster.attempt(startup, token=token) as attempt:
        pass
    if not attempt.asked_for_password:
        raise attempt.failure or ProtocolError("no token was asked for")
    return Answer(
        attempt.verdict, {"types": types_of(attempt.heard), "text": attempt.said}
    )


def _offer(attempt: LoginAttempt) -> NegotiateProtocolVersion | None:
    bodies = _bodies(attempt.heard, BackendType.NEGOTIATE_PROTOCOL_VERSION)
    return NegotiateProtocolVersion.decode(bodies[0]) if bodies else None


def _negotiation(attempt: LoginAttempt) -> dict[str, Evidence]:
    keys = _bodies(attempt.heard, BackendType.BACKEND_KEY_DATA)
    return {
        "types until ready": types_of(attempt.heard),
        "key bytes": len(BackendKeyData.decode(keys[0]).secret_key) if keys else None,
        "outcome": attempt.said,
    }


def _bodies(frames: list[Frame], kind: BackendType) -> list[bytes]:
    return [one.body for one in frames if one.type == kind]


LOGIN_QUESTIONS: Final = (
    Question(
        "tls",
        "Which ways of beginning TLS work, and what do they agree on?",
        "The proxy tries direct TLS first and falls back to SSLRequest.",
        _tls,
    ),
    Question(
        "authentication_request",
        "What exactly does a cluster ask for, and in which order does it answer?",
        "The proxy sends a token in answer to code 3 only.",
        _authentication,
    ),
    Question(
        "parameter_status",
        "Which settings does a cluster report, and is search_path among them?",
        "After a swap the client is told what differs.",
        _parameter_status,
    ),
    Question(
        "backend_key_data",
        "Is there a BackendKeyData, how long is its key, and is its process id real?",
        "Without one no query can be cancelled.",
        _key_data,
    ),
    Question(
        "protocol_3_2",
        "What is answered to a startup packet of protocol 3.2?",
        "The proxy asks for 3.0 and answers newer clients by itself.",
        _newer_protocol,
    ),
    Question(
        "protocol_option",
        "What is answered to an unknown protocol option (_pq_.)?",
        "The proxy keeps such options between itself and the client.",
        _protocol_option,
    ),
    Question(
        "startup_options",
        "Which code does a setting get that is not accepted at startup?",
        "The proxy drops such settings from startup packets.",
        _startup_options,
    ),
    Question(
        "startup_settings",
        "Are all 17 accepted settings taken at startup, as they are given?",
        "A swapped session begins with its client's startup packet.",
        _startup_settings,
    ),
    Question(
        "other_server_name",
        "What is said to the name (SNI) of a cluster that does not exist?",
        "The proxy explains refusals by what they say. No token is sent here.",
        _other_server_name,
    ),
    Question(
        "token_over_a_week",
        "What is said to a token whose lifetime is over a week?",
        "The proxy explains refusals by what they say. The lifetime is written into a "
        "signed token, so its signature may be what is refused.",
        _long_token,
    ),
    Question(
        "expired_token",
        "What is said to a token of one second that is some seconds old?",
        "This refusal is the one that deserves a new token.",
        _expired_token,
        extra_seconds=lambda pace: pace.expire_seconds,
    ),
    Question(
        "unknown_role",
        "What is said to a role that does not exist?",
        "The proxy explains refusals by what they say.",
        _unknown_role,
    ),
)
