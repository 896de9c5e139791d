"""What schemathesis cannot read in the contract."""

import os

import schemathesis
from schemathesis import GenerationMode

# Refusals of requests that keep to the schema: what they ask for cannot be said in one.
CODES = {"invalid_cursor", "malformed_notifications"}
FIELDS = {
    "/to",  # is not after `from`
    "/return_url",  # is on no origin that the operator allows
    "/provider",  # is not one that the operator has
}
KNOWN = {
    "/v1/connections/{id}": os.environ["FUZZ_CONNECTION"],
    "/v1/events/{id}": os.environ["FUZZ_EVENT"],
}


@schemathesis.hook
def before_call(context, case, kwargs):
    """Good requests are about something that is there."""
    if case.meta and case.meta.generation.mode == GenerationMode.POSITIVE:
        for path, known in KNOWN.items():
            if case.path.startswith(path):
                case.path_parameters["id"] = known
        if case.path == "/v1/connect_sessions":
            case.body["provider"] = "microsoft"
            case.body.pop("return_url", None)


@schemathesis.hook
def filter_failure(context, failure, case, response):
    if failure.code != "ST202":
        return True
    # It answers people with pages, and knows no state but those that were given out.
    if case.operation.definition.raw["operationId"] == "oauth_callback":
        return False
    problem = response.json()
    fields = {error["pointer"] for error in problem.get("errors", [])}
    return not (problem["code"] in CODES or (fields and fields <= FIELDS))
