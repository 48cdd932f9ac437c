#!/usr/bin/env bash
# Label Studio itself against `python -m dataset_scripts.annotate`: it connects the backend, asks for a prediction with an
# annotator's box, sends the answer back with one frame corrected, and stores a prediction by words.
#
#   python -m venv /tmp/ls && /tmp/ls/bin/pip install label-studio
#   tests/external/try_label_studio.sh /tmp/ls/bin/python .venv/bin/python
#
# Tried with label-studio 1.23.2. Needs no browser: requests are those of the page, made inside Label Studio's process.
set -euo pipefail
LABEL_STUDIO=$1
PYTHON=${2:-python}
HERE=$(cd "$(dirname "$0")/../.." && pwd)
WORK=$(mktemp -d)
trap 'kill $SERVER 2>/dev/null || true; rm -rf "$WORK"' EXIT

export LABEL_STUDIO_BASE_DATA_DIR=$WORK/data DJANGO_DB=sqlite DEBUG=false SENTRY_DSN= COLLECT_ANALYTICS=false
export ML_BLOCK_LOCAL_IP=false SSRF_PROTECTION_ENABLED=false # since 1.23 it calls no backend on this machine otherwise
export BASIC_AUTH_USER=ann BASIC_AUTH_PASS=secret ML_TIMEOUT_SETUP=10 ML_TIMEOUT_HEALTH=10
mkdir -p "$WORK/data/media"
cd "$HERE"
"$PYTHON" -m dataset_scripts.annotate dataset_scripts/annotate/example.yaml --set "media_root=$WORK/data/media" \
    --set port=9191 --set tracker.kind=csrt --set tracker.options={} --set grounder.options.checkpoint=elysium \
    --set min_grounding=0.01 >"$WORK/server.log" 2>&1 &
SERVER=$!
for _ in $(seq 120); do grep -q serves "$WORK/server.log" && break; sleep 1; done

cd "$WORK"
"$LABEL_STUDIO" - "$HERE/examples/sample.mp4" <<'PYTHON'
import os, shutil, sys
import label_studio
sys.path.insert(0, os.path.dirname(label_studio.__file__))
os.environ["DJANGO_SETTINGS_MODULE"] = "core.settings.label_studio"
import django
django.setup()
from django.core.management import call_command
call_command("migrate", verbosity=0)
from django.conf import settings
from organizations.models import Organization
from rest_framework.test import APIClient
from users.models import User

user = User.objects.create_user(email="ann@example.com", password="secret-1")
user.active_organization = Organization.create_organization(created_by=user, title="try")
user.save()
client = APIClient()
client.force_authenticate(user)

config = """<View><Labels name="videoLabels" toName="video"><Label value="ball"/></Labels>
<Video name="video" value="$video" framerate="25"/><VideoRectangle name="box" toName="video" smart="true"/></View>"""
project = client.post("/api/projects", {"title": "try", "label_config": config}, format="json").json()
folder = os.path.join(settings.MEDIA_ROOT, "upload", str(project["id"]))
os.makedirs(folder)
shutil.copy(sys.argv[1], os.path.join(folder, "0a1b2c3d-sample.mp4"))
url = f"/data/upload/{project['id']}/0a1b2c3d-sample.mp4"
answer = client.post(f"/api/projects/{project['id']}/import", [{"data": {"video": url}}], format="json")
task = client.get(f"/api/tasks?project={project['id']}").json()["tasks"][0]

backend = client.post("/api/ml", {
    "project": project["id"], "url": "http://127.0.0.1:9191", "title": "elysium", "is_interactive": True,
    "auth_method": "BASIC_AUTH", "basic_auth_user": "ann", "basic_auth_pass": "secret",
}, format="json")
assert backend.status_code == 201, backend.json()
backend = backend.json()
print("connected:", backend["readable_state"], backend["model_version"])

def ask(region):
    body = {"task": task["id"], "context": {"result": [region]}}
    answer = client.post(f"/api/ml/{backend['id']}/interactive-annotating", body, format="json").json()
    assert "data" in answer, answer
    return answer["data"]["result"][0]

box = {"frame": 1, "enabled": True, "rotation": 0, "x": 24.7, "y": 16.1, "width": 9.1, "height": 39.2, "time": 0.04}
region = {"id": "r1", "type": "videorectangle", "from_name": "box", "to_name": "video", "origin": "manual",
          "value": {"framesCount": 0, "duration": 0, "sequence": [box], "labels": ["ball"]}}
first = ask(region)
steps = first["value"]["sequence"]
print(len(steps), "keyframes for", first["value"]["framesCount"], "frames, score", first["score"])
assert steps[0]["frame"] == 1 and len(steps) > 2

# as the page's updateShape does: the corrected keyframe starts from a copy of the one after it
middle = len(steps) // 2
steps[middle] = {**steps[middle], "x": steps[middle]["x"] + 2}
again = ask(first)["value"]["sequence"]
assert again[: middle] == steps[:middle] and again[middle]["x"] == steps[middle]["x"]
assert "predicted" not in again[middle] and again[middle + 1 :] != steps[middle + 1 :]
print("gone on from frame", steps[middle]["frame"], "with", len(again), "keyframes")

stored = client.post(f"/api/dm/actions?id=retrieve_tasks_predictions&project={project['id']}",
                     {"selectedItems": {"all": True, "excluded": []}}, format="json")
assert stored.status_code == 200, stored.content
predictions = client.get(f"/api/predictions?task={task['id']}").json()
print("stored predictions:", [(p["model_version"], round(p["score"] or 0, 3), len(p["result"])) for p in predictions])
assert len(predictions) == 1
PYTHON
