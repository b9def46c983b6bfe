"""No upload larger than what the pages allow is ever read, whoever sends it."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.exceptions import RequestDataTooBig
from django.core.files.uploadhandler import FileUploadHandler

ENVELOPE = 64 * 1024  # bytes for the rest of the form


class CappedUploadHandler(FileUploadHandler):
    """First in the chain: refuses by the announced length, before anything is kept, and by what really comes."""

    def handle_raw_input(
        self, input_data: Any, META: dict[str, Any], content_length: int, boundary: str, encoding: str | None = None
    ) -> None:
        self.taken = 0
        if content_length > settings.ATTACHMENT_BYTES + ENVELOPE:
            raise RequestDataTooBig(
                f"The upload has {content_length:,} bytes; a file may have {settings.ATTACHMENT_BYTES:,}."
            )

    def receive_data_chunk(self, raw_data: bytes, start: int) -> bytes:
        self.taken += len(raw_data)
        if self.taken > settings.ATTACHMENT_BYTES + ENVELOPE:
            raise RequestDataTooBig(f"The upload is larger than {settings.ATTACHMENT_BYTES:,} bytes.")
        return raw_data  # for the next handler

    def file_complete(self, file_size: int) -> None:
        return None
