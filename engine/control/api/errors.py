"""The API's error bodies: one table of codes and texts, and what each refusal of the service becomes."""

from __future__ import annotations

from typing import Any

from engine.service.refusals import (
    BadParameter,
    InstanceUnknown,
    JobUnknown,
    NotConfiguredHere,
    PairAtWork,
    PasswordRefused,
    Refusal,
    StateForbids,
    TaskUnknown,
)

MESSAGE_LIMIT = 1024

NAME_RULE = (
    "Invalid DCS instance name. The name must be 4 to 64 characters and start with a letter. "
    "Only letters, digits, hyphens (-), and underscores (_) are allowed."
)

# code: (HTTP status, message)
TABLE: dict[str, tuple[int, str]] = {
    "DCS.4133": (400, "Instance job is not found."),
    "DCS.4855": (400, "invalid migration task id in the request."),
    "DCS.4957": (400, "This operation is not allowed when the task is in the current state."),
    "DCS.4017": (400, "This DCS instance job task is still running."),
    "DCS.4049": (400, "The instance status is not running."),
    "DCS.4070": (400, "Invalid task ID format."),
    "DCS.4061": (400, "Invalid instance ID format."),
    "DCS.4002": (400, "Invalid project ID format."),
    "DCS.4004": (400, "Empty request body."),
    "DCS.4005": (400, "The message body contains invalid characters or is not in JSON format."),
    "DCS.4063": (400, "Invalid {0} parameter in the request."),
    "111400063": (400, "Invalid {0} parameter in the request."),
    "DCS.4800": (400, "Invalid {0} in the request."),
    "DCS.4010": (400, NAME_RULE),
    "DCS.4011": (400, "DCS instance description cannot exceed 1024 characters."),
    "DCS.4013": (400, "Invalid vpc_id in the request."),
    "DCS.4014": (400, "Invalid security_group_id in the request."),
    "DCS.4016": (400, "Invalid subnet_id in the request."),
    "DCS.4080": (400, "Instance password verify failed."),
    "DCS.4845": (400, "The password parameter is missing or its value is invalid."),
    "DCS.4100": (400, "The number of instance IDs in an instances array cannot exceed 50."),
    "DCS.1001": (401, "Invalid token."),
    "DCS.1002": (401, "Token expired."),
    "DCS.1003": (401, "No token in the request."),
    "DCS.1004": (401, "Project ID does not match the token."),
    "APIGW.0301": (401, "Incorrect IAM authentication information: {0}"),
    "DCS.3003": (403, "This role does not have the permission to perform this operation."),
    "DCS.3002": (
        403,
        "This tenant has read permission only and cannot perform this operation.",
    ),
    "DCS.4001": (404, "The requested URL does not exist."),
    "DCS.3022": (404, "This DCS instance does not exist."),
    "DCS.5001": (405, "This request method is not allowed."),
    "DCS.5000": (500, "Internal service error."),
}

_FIELD_CODES = {
    "name": "DCS.4010",
    "task_name": "DCS.4010",
    "description": "DCS.4011",
    "vpc_id": "DCS.4013",
    "security_group_id": "DCS.4014",
    "subnet_id": "DCS.4016",
    "source_instance.id": "DCS.4061",
    "target_instance.id": "DCS.4061",
    "id": "DCS.4061",
    "instance_id": "DCS.4061",
    "source_instance.password": "DCS.4845",
    "target_instance.password": "DCS.4845",
    "password": "DCS.4845",
    "project_id": "DCS.4002",
    "task_id": "DCS.4070",
    "job_id": "DCS.4070",
    "migration_tasks": "DCS.4855",
    "task_id_list": "DCS.4855",
}


class DcsError(Exception):
    """An answer that is an error. word: for the message's {0}. reason: a sentence of ours behind the text."""

    def __init__(
        self, code: str, word: str = "", *, reason: str = "", http_status: int | None = None
    ) -> None:
        status, text = TABLE[code]
        super().__init__(code)
        self.code = code
        self.http_status = http_status or status
        self.message = text.replace("{0}", word)
        if reason:
            self.message += f" {reason[0].upper()}{reason[1:]}."
        self.message = self.message[:MESSAGE_LIMIT]

    def body(self, request_id: str = "") -> dict[str, Any]:
        """The JSON body."""
        body = {"error_code": self.code, "error_msg": self.message, "error_ext_msg": None}
        return body | {"request_id": request_id} if self.code.startswith("APIGW") else body


def bad_parameter(name: str, reason: str = "") -> DcsError:
    """The error of a field that cannot be used; the code follows from its name."""
    if reason:
        return DcsError("DCS.4063", name, reason=reason)
    code = _FIELD_CODES.get(name, "DCS.4063")
    return DcsError(code, name)


def error_of(refusal: Refusal) -> DcsError:
    """What a refusal of the service is on the wire."""
    match refusal:
        case TaskUnknown() | JobUnknown():
            return DcsError("DCS.4133")
        case InstanceUnknown():
            return DcsError("DCS.3022")
        case PasswordRefused():
            return DcsError("DCS.4080")
        case PairAtWork():
            return DcsError("DCS.4017")
        case BadParameter(name=name, reason=reason):
            return bad_parameter(name, reason)
        case StateForbids(reason=reason) | NotConfiguredHere(reason=reason):
            return DcsError("DCS.4957", reason=reason)
        case _:
            return DcsError("DCS.5000")
