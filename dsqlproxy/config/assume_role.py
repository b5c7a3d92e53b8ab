"""The key ``assume_role``: the ARN of a role, or a mapping that says more."""

import re
from typing import Annotated, Final

from pydantic import BeforeValidator, Field, PlainValidator, WithJsonSchema

from dsqlproxy.config.refusal import refused
from dsqlproxy.config.section import Section
from dsqlproxy.config.values import parse_text

_ROLE_ARN: Final = re.compile(r"arn:aws[a-z-]*:iam::[0-9]{12}:role/[\w+=,.@/-]{1,512}")
# AWS documentation, API reference of AssumeRole: RoleSessionName and ExternalId.
_SESSION_NAME: Final = re.compile(r"[\w+=,.@-]{2,64}", re.ASCII)
_EXTERNAL_ID: Final = re.compile(r"[\w+=,.@:/-]{2,1224}", re.ASCII)

DEFAULT_SESSION_NAME: Final = "dsqlproxy"


def _parse_role_arn(value: object) -> str:
    text = parse_text(value)
    if not _ROLE_ARN.fullmatch(text):
        accepted = "arn:aws:iam::<12 digits>:role/<name>"
        raise refused(value, "is not the ARN of a role", accepted=accepted)
    return text


def _parse_session_name(value: object) -> str:
    text = parse_text(value)
    if not _SESSION_NAME.fullmatch(text):
        accepted = "2 to 64 letters, digits and _+=,.@-"
        raise refused(value, "is not a session name", accepted=accepted)
    return text


def _parse_external_id(value: object) -> str:
    text = parse_text(value)
    if not _EXTERNAL_ID.fullmatch(text):
        accepted = "2 to 1224 letters, digits and _+=,.@:/-"
        raise refused(value, "is not an external id", accepted=accepted)
    return text


_TEXT_SCHEMA: Final = WithJsonSchema({"type": "string"})


class AssumedRole(Section):
    """A role that is assumed with the credentials that were found."""

    role_arn: Annotated[str, PlainValidator(_parse_role_arn), _TEXT_SCHEMA] = Field(
        description="ARN of the role."
    )
    session_name: Annotated[str, PlainValidator(_parse_session_name), _TEXT_SCHEMA] = (
        Field(
            default=DEFAULT_SESSION_NAME,
            description="Name of the session, as CloudTrail shows it.",
        )
    )
    external_id: (
        Annotated[str, PlainValidator(_parse_external_id), _TEXT_SCHEMA] | None
    ) = Field(default=None, description="External id that the role's trust asks for.")


def _as_mapping(value: object) -> object:
    """Take an ARN alone for the mapping that it stands for."""
    if isinstance(value, dict | AssumedRole):
        return value
    if not isinstance(value, str):
        accepted = (
            "the ARN of a role, or a mapping of role_arn, session_name and external_id"
        )
        raise refused(value, "is not a role", accepted=accepted)
    return {"role_arn": _parse_role_arn(value)}


AssumeRole = Annotated[
    AssumedRole,
    BeforeValidator(_as_mapping, json_schema_input_type=str | AssumedRole),
]
