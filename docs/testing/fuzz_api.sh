#!/bin/sh
# Has schemathesis (`pip install schemathesis`, 90 MB, so in no extra) ask the API for all that its OpenAPI document allows,
# and for what it does not allow: in a project of its own, against the simulator. Takes some minutes.
# Not checked: that what fits the document is accepted, as no document says which agents and workflows there are.
set -eu
folder=$(mktemp -d)
trap 'kill "$server" 2>/dev/null || true; wait; rm -rf "$folder"' EXIT
cd "$folder"
claude-force init
claude-force serve --port 0 --allow-runs --offline > address &
server=$!
until [ -s address ]; do sleep 0.1; done
schemathesis run "$(cat address)api/openapi.json" --exclude-path /api/events --max-examples "${1:-100}" \
  --checks all --exclude-checks positive_data_acceptance --request-timeout 60
