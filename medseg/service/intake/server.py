"""The port of the listener, and what may be sent to it."""

from __future__ import annotations

from functools import partial
from typing import Any

from pydicom.uid import AllTransferSyntaxes, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AllStoragePresentationContexts, _config, build_context
from pynetdicom.ae import ApplicationEntity
from pynetdicom.sop_class import StorageCommitmentPushModel, Verification

from medseg.refusal import Refusal
from medseg.service.intake.spool import Limits, Spool
from medseg.service.settings import contexts
from medseg.service.settings.site import Site
from medseg.service.wire import Server, listening

PDU_BYTES = 2**17
"""Longest data PDU that is asked for; large ones cost less time a byte."""
SERVICES = [
    build_context(one, [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
    for one in (Verification, StorageCommitmentPushModel)
]
STORABLE = frozenset(str(one.abstract_syntax) for one in AllStoragePresentationContexts)
SYNTAXES = frozenset(map(str, AllTransferSyntaxes))

_config.LOG_HANDLER_LEVEL = "none"  # what pynetdicom would log of each message holds what is in it


def serve(site: Site, handlers: list[Any], limits: Limits) -> Server:
    """A server that is bound to its port; `serve_forever` makes it answer.

    Raises:
        Refusal: the port cannot be had, or certificates are not what they should be.
    """
    listen = site.listen
    entity = ApplicationEntity(listen.ae_title)
    entity.maximum_pdu_size = PDU_BYTES
    entity.supported_contexts = SERVICES
    certificate = contexts.server(site, listen.tls) if listen.tls else None
    limited: dict[str, Any] = {"idle_s": listen.idle_s, "associations": listen.associations}
    limited["parts"] = partial(Spool, limits=limits)
    try:
        return listening(entity, (listen.host, listen.port), handlers, certificate, **limited)
    except OSError as error:
        raise Refusal(
            f"{listen.host}:{listen.port}",
            found=f"an address that cannot be listened at ({error.strerror or error})",
            needed="a free port at an address of this machine",
            remedy="see what listens there, or change listen.host and listen.port",
        ) from error


def offered(primitive: Any) -> list[Any]:
    """Presentation contexts to support, of those that are asked for: any known storage class in any known transfer
    syntax. What is unknown, or a vendor's own, nobody here could read."""
    wanted: dict[str, list[str]] = {}
    for context in primitive.presentation_context_definition_list:
        name = str(context.abstract_syntax)
        if name in STORABLE:
            wanted.setdefault(name, []).extend(one for one in map(str, context.transfer_syntax) if one in SYNTAXES)
    return [*SERVICES, *(build_context(name, list(dict.fromkeys(some))) for name, some in wanted.items() if some)]
