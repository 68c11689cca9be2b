"""Cloudflare R2 and other S3 servers as a store, through boto3."""

from __future__ import annotations

import hashlib
import logging
import os
import re
import warnings
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO, Self, TypeVar

from hlkit.project import HlkitError, HlkitWarning
from hlkit.stores import (
    ChangedMeanwhileError,
    DamagedFileError,
    FileRecord,
    OnBytes,
    Snapshot,
    Store,
    check_key,
    without_password,
)

# Requests to an object store wait for the network far longer than they work.
THREADS = 16
# One request carries what a slow line moves in about a minute; R2 wants all parts but the last equally long.
MULTIPART_BYTES = 16 << 20
# Eight tries wait for up to about two minutes, which a server that asks to slow down may need.
REQUEST_ATTEMPTS = 8
CONNECT_SECONDS = 20
READ_SECONDS = 60
# A small object that arrives cut off or damaged is read this often.
ATTEMPTS = 5
# What servers answer when a body is not what its signature or checksum says.
DAMAGED_CODES = ("BadDigest", "XAmzContentSHA256Mismatch", "InvalidDigest", "IncompleteBody")
# What they answer when the condition of a write does not hold: the object was replaced, is being, or is gone.
CHANGED_CODES = ("PreconditionFailed", "412", "ConditionalRequestConflict", "NoSuchKey")
NOT_OFFERED_CODES = ("NotImplemented", "501")
# Never there, so that a write on the condition that it is must fail.
PROBE = "manifest.json.probe"

ACCOUNT_VARIABLE = "R2_ACCOUNT_ID"
ENDPOINT_VARIABLE = "HLKIT_S3_ENDPOINT"
KEY_VARIABLES = (("R2_ACCESS_KEY_ID", "R2_SECRET_ACCESS_KEY"), ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"))
TOKEN_VARIABLE = "AWS_SESSION_TOKEN"
REGION_VARIABLES = ("AWS_REGION", "AWS_DEFAULT_REGION")
VARIABLES = (ACCOUNT_VARIABLE, ENDPOINT_VARIABLE, *chain(*KEY_VARIABLES), TOKEN_VARIABLE, *REGION_VARIABLES)

Found = TypeVar("Found")

_log = logging.getLogger(__name__)


class S3Store(Store):
    """A bucket, or a prefix in one, of Cloudflare R2 or another S3 server.

    Environment: for `r2://` either `R2_ACCOUNT_ID` or `HLKIT_S3_ENDPOINT` (a URL); for `s3://` Amazon's own endpoint
    unless `HLKIT_S3_ENDPOINT` is set. Keys: `R2_ACCESS_KEY_ID` and `R2_SECRET_ACCESS_KEY`, else `AWS_ACCESS_KEY_ID` and
    `AWS_SECRET_ACCESS_KEY` (with `AWS_SESSION_TOKEN` where there is one). Each object carries its SHA-256 as metadata.
    No secret is shown in an error.

    Raises:
        HlkitError: when the address is malformed, or names the variables that are missing.
    """

    def __init__(self, address: str) -> None:
        match = re.fullmatch(r"(r2|s3)://([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?:/(.*))?", address)
        if match is None:
            example = "r2://BUCKET/PREFIX or s3://BUCKET/PREFIX, such as r2://my-bucket/my-stream"
            raise HlkitError(f"'{without_password(address)}' is not a bucket's address. Give {example}.")
        scheme, self._bucket, prefix = match.groups()
        prefix = (prefix or "").strip("/")
        self._prefix = f"{check_key(prefix)}/" if prefix else ""
        self.address = f"{scheme}://{self._bucket}/{self._prefix}".rstrip("/")
        # A pasted key may bring its line end along.
        env = {name: os.environ.get(name, "").strip() for name in VARIABLES}
        endpoint = _endpoint(scheme, env)
        self._secrets, options = _credentials(env)
        region = env["AWS_REGION"] or env["AWS_DEFAULT_REGION"] or "us-east-1"
        self._client = self._plainly("client", lambda: _client(endpoint, "auto" if scheme == "r2" else region, options))
        self._manager: Any = None
        # Some servers take a condition and pay no heed to it; Cloudflare's and Amazon's heed it.
        self._conditional = None if env[ENDPOINT_VARIABLE] else True

    def read(self, key: str) -> Snapshot | None:
        """See `Store.read`."""
        from botocore.exceptions import ClientError

        def get() -> Snapshot | None:
            try:
                answer = self._client.get_object(Bucket=self._bucket, Key=self._prefix + key)
            except ClientError as error:
                if error.response["Error"]["Code"] == "NoSuchKey":
                    return None
                raise
            data = answer["Body"].read()
            if answer["Metadata"].get("sha256") not in (None, hashlib.sha256(data).hexdigest()):
                raise DamagedFileError(f"{key} of {self.address} does not match its SHA-256.")
            return Snapshot(data, answer["ETag"])

        return self._whole(key, get)

    def write(self, key: str, data: bytes, version: str | None) -> str:
        """See `Store.write`. A server without conditional writes is read before and after, and a warning says so."""
        if self._conditional is None and version is not None:
            self._set_conditional(self._put(PROBE, b"", {"IfMatch": '"none"'})[1])
        if self._conditional is not False:
            etag, refusal = self._put(key, data, {"IfMatch": version} if version else {"IfNoneMatch": "*"})
            if not refusal:
                return etag
            if refusal not in NOT_OFFERED_CODES:
                raise self._changed(key)
            self._set_conditional(refusal)
        found = self.read(key)
        if (found.version if found else None) != version:
            raise self._changed(key)
        self._put(key, data, {})
        found = self.read(key)
        if found is None or found.data != data:
            raise self._changed(key)
        return found.version

    def _set_conditional(self, refusal: str) -> None:
        """Conclude from the answer to a condition that did not hold: a server that knows conditions refuses."""
        self._conditional = refusal in CHANGED_CODES
        if not refusal:
            self.delete(PROBE)
        if not self._conditional:
            advice = "a writer that comes at the very same moment can be missed; push from one place at a time"
            warnings.warn(f"{self.address} has no conditional writes: {advice}.", HlkitWarning, stacklevel=6)

    def _put(self, key: str, data: bytes, condition: dict[str, str]) -> tuple[str, str]:
        """The ETag of what was put, and the code with which a condition was refused; one of them is empty."""
        from botocore.exceptions import ClientError

        names = {"Bucket": self._bucket, "Key": self._prefix + key}
        metadata = {"sha256": hashlib.sha256(data).hexdigest()}

        def put() -> tuple[str, str]:
            try:
                return self._client.put_object(Body=data, Metadata=metadata, **names, **condition)["ETag"], ""
            except ClientError as error:
                code = error.response["Error"]["Code"]
                if condition and code in (*CHANGED_CODES, *NOT_OFFERED_CODES):
                    return "", code
                raise

        return self._whole(key, put)

    def _whole(self, key: str, call: Callable[[], Found]) -> Found:
        """What `call` returns; asked again when a body was cut off or damaged on its way, which boto3 leaves to us."""
        for _ in range(ATTEMPTS):
            try:
                return self._plainly(key, call)
            except DamagedFileError as error:
                _log.info("%s", error)
        raise DamagedFileError(f"{key} of {self.address} does not arrive whole. Check the network, then run it again.")

    def _changed(self, key: str) -> ChangedMeanwhileError:
        return ChangedMeanwhileError(f"{key} of {self.address} was replaced by another writer.")

    def sizes(self) -> dict[str, int]:
        """See `Store.sizes`."""

        def ask() -> list[Any]:
            pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=self._prefix)
            return [found for page in pages for found in page.get("Contents", [])]

        objects = self._whole("its list", ask)
        return {found["Key"].removeprefix(self._prefix): found["Size"] for found in objects}

    def delete(self, key: str) -> None:
        """See `Store.delete`."""
        self._plainly(key, lambda: self._client.delete_object(Bucket=self._bucket, Key=self._prefix + key))

    def link(self, key: str, *, seconds: int) -> str:
        """See `Store.link`. Whoever has the link can fetch this one object until then, so it is a secret of its own."""
        names = {"Bucket": self._bucket, "Key": self._prefix + check_key(key)}
        sign = self._client.generate_presigned_url
        return self._plainly(key, lambda: sign("get_object", Params=names, ExpiresIn=seconds))

    def holds(self, key: str, record: FileRecord) -> bool:
        """See `Store.holds`."""
        from botocore.exceptions import ClientError

        def ask() -> bool:
            try:
                head = self._client.head_object(Bucket=self._bucket, Key=self._prefix + key)
            except ClientError as error:
                if error.response["Error"]["Code"] in ("404", "NoSuchKey", "NotFound"):
                    return False
                raise
            return head["ContentLength"] == record.size and head["Metadata"].get("sha256") == record.sha256

        return self._plainly(key, ask)

    def upload(self, key: str, path: Path, record: FileRecord, on_bytes: OnBytes) -> None:
        """See `Store.upload`."""
        names, extra = (str(path), self._bucket, self._prefix + key), {"Metadata": {"sha256": record.sha256}}
        self._plainly(key, lambda: self._manager.upload(*names, extra, [_watcher(on_bytes)]).result())

    def download(self, key: str, file: BinaryIO, on_bytes: OnBytes) -> None:
        """See `Store.download`."""
        names = (self._bucket, self._prefix + key)
        self._plainly(key, lambda: self._manager.download(*names, file, None, [_watcher(on_bytes)]).result())

    def __enter__(self) -> Self:
        from s3transfer.manager import TransferConfig, TransferManager

        sizes = {"multipart_threshold": MULTIPART_BYTES, "multipart_chunksize": MULTIPART_BYTES}
        self._manager = TransferManager(self._client, TransferConfig(max_request_concurrency=THREADS, **sizes))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: object) -> None:
        # Its public shutdown(cancel=True) passes its message as an exception class.
        self._manager.__exit__(kind, error, trace)

    def _plainly(self, key: str, call: Callable[[], Found]) -> Found:
        """What `call` returns; what boto3 raises becomes one sentence without secrets."""
        try:
            return call()
        except Exception as error:
            # The three packages share no base class, and some of their errors exist in newer versions only.
            if not type(error).__module__.startswith(("boto3.", "botocore.", "s3transfer.")):
                raise
            failure = self._failure(key, error)
        # Not raised above: the original may quote a header, and would stay behind this one as its context.
        raise failure

    def _failure(self, key: str, error: Exception) -> HlkitError:
        from botocore.exceptions import IncompleteReadError, ResponseStreamingError
        from botocore.parsers import ResponseParserError

        code = str((getattr(error, "response", None) or {}).get("Error", {}).get("Code", ""))
        broken = isinstance(error, IncompleteReadError | ResponseStreamingError | ResponseParserError)
        if broken or code in DAMAGED_CODES:
            return DamagedFileError(f"{key} of {self.address} did not arrive whole ({code or type(error).__name__}).")
        reason = str(error)
        for secret in self._secrets:
            reason = reason.replace(secret, "***")
        return HlkitError(f"{self.address}, {key}: {reason.rstrip('.')}. {_advice(code)}")


def _endpoint(scheme: str, env: dict[str, str]) -> str | None:
    if endpoint := env[ENDPOINT_VARIABLE]:
        # The value itself may hold a password, so it is not shown.
        if not re.fullmatch(r"https?://[A-Za-z0-9.-]+(:\d+)?/?", endpoint):
            raise HlkitError(
                f"{ENDPOINT_VARIABLE} is malformed. Set it to a server such as https://s3.example.org:9000."
            )
        return endpoint
    if scheme == "s3":
        return None
    account = env[ACCOUNT_VARIABLE]
    if not re.fullmatch(r"[0-9A-Za-z]+", account):
        advice = f"Set it to your Cloudflare account id (32 hex digits), set {ENDPOINT_VARIABLE}, or use a folder"
        raise HlkitError(f"{ACCOUNT_VARIABLE} is {'malformed' if account else 'missing'}. {advice}.")
    return f"https://{account}.r2.cloudflarestorage.com"


def _credentials(env: dict[str, str]) -> tuple[list[str], dict[str, str]]:
    """The secrets, to be kept out of messages, and boto3's options that hold them."""
    for key_variable, secret_variable in KEY_VARIABLES:
        if env[key_variable] and env[secret_variable]:
            options = {"aws_access_key_id": env[key_variable], "aws_secret_access_key": env[secret_variable]}
            if key_variable.startswith("AWS") and env[TOKEN_VARIABLE]:
                options["aws_session_token"] = env[TOKEN_VARIABLE]
            return list(options.values()), options
    pairs = ", or ".join(" and ".join(pair) for pair in KEY_VARIABLES)
    raise HlkitError(f"The keys of the store are missing. Set {pairs} in the environment; or use a folder.")


def _client(endpoint: str | None, region: str, credentials: dict[str, str]) -> Any:
    import boto3
    from botocore.config import Config

    config = Config(
        # Some S3 servers refuse the checksums that boto3 has added by itself since 1.36.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        # Each file has a thread that asks for it and a thread that moves it.
        max_pool_connections=2 * THREADS,
        # The waits between grow and are random.
        retries={"total_max_attempts": REQUEST_ATTEMPTS, "mode": "standard"},
        connect_timeout=CONNECT_SECONDS,
        read_timeout=READ_SECONDS,
        # Links must be signed this way too, where boto3 would still take the older one.
        signature_version="s3v4",
        s3={"addressing_style": "path" if endpoint else "auto"},
    )
    return boto3.client("s3", endpoint_url=endpoint, region_name=region, config=config, **credentials)


def _watcher(on_bytes: OnBytes) -> Any:
    from s3transfer.subscribers import BaseSubscriber

    class Watcher(BaseSubscriber):
        def on_progress(self, future: Any, bytes_transferred: int, **kwargs: Any) -> None:
            on_bytes(bytes_transferred)

    return Watcher()


def _advice(code: str) -> str:
    if code == "NoSuchBucket":
        return "Create the bucket first, or correct the address."
    if code in ("AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "Unauthorized", "403", "401"):
        return f"Check {' and '.join(KEY_VARIABLES[0])}, and that the key may read and write this bucket."
    return "Check the network and the address, then run it again; what has arrived is not sent again."
