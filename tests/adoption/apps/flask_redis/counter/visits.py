import os
from pathlib import Path

import redis
from flask import Blueprint, current_app, jsonify, request

bp = Blueprint("visits", __name__, url_prefix="/visits")
store = redis.Redis(port=int(os.environ.get("REDIS_PORT", "6379")), decode_responses=True)


@bp.route("", methods=["GET", "POST"])
def visits():
    if request.method == "POST":
        name = request.form["name"]
        store.rpush("visits", name)
        Path(current_app.instance_path, f"{name}.card").write_text(name)
    cards = sorted(one.stem for one in Path(current_app.instance_path).glob("*.card"))
    return jsonify(visits=store.lrange("visits", 0, -1), cards=cards)
