"""The key ``client_tls``: one of two words, or a certificate with its key."""

from typing import Annotated, Literal

from pydantic import (
    BeforeValidator,
    Discriminator,
    Field,
    Tag,
    WithJsonSchema,
    model_validator,
)

from dsqlproxy.config.certificates import check_key_pair, check_self_signing
from dsqlproxy.config.refusal import did_you_mean, refused
from dsqlproxy.config.section import Section
from dsqlproxy.config.values import ReadableFile


class ClientCertificate(Section):
    """A certificate of our own that clients are shown."""

    cert_file: ReadableFile = Field(
        description="PEM file of the certificate, followed by its chain."
    )
    key_file: ReadableFile = Field(
        description="PEM file of the private key, without a passphrase."
    )

    @model_validator(mode="after")
    def _fits_its_key(self) -> "ClientCertificate":
        check_key_pair(self.cert_file, self.key_file)
        return self


# Pydantic puts the tag of the form that was tried into the path of a problem; by
# these names it is recognised there and left out.
FORM_TAGS = frozenset({"<files>", "<word>"})


def _client_tls_form(value: object) -> str:
    return "<files>" if isinstance(value, dict | ClientCertificate) else "<word>"


def _client_tls_word(value: object) -> str:
    if value is False or value == "off":
        return "off"
    if value == "auto":
        check_self_signing()
        return "auto"
    # The file says on or yes where YAML, and so the message, says true.
    how_read = "(as YAML reads on and yes) " if value is True else ""
    raise refused(
        value,
        f"{how_read}is not a choice",
        accepted="off, auto, or a mapping of cert_file and key_file"
        + did_you_mean(value, ("off", "auto")),
    )


ClientTls = Annotated[
    Annotated[
        Literal["off", "auto"],
        BeforeValidator(_client_tls_word),
        WithJsonSchema({"enum": ["off", "auto", False]}),
        Tag("<word>"),
    ]
    | Annotated[ClientCertificate, Tag("<files>")],
    Discriminator(_client_tls_form),
]
