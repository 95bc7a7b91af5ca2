import os

from flask import Flask, render_template

from . import visits


def create_app():
    app = Flask(__name__, instance_relative_config=True)
    app.config.from_mapping(TITLE=os.environ.get("COUNTER_TITLE", "Counter"), UNIT="visits")
    app.config.from_pyfile("config.py", silent=True)
    os.makedirs(app.instance_path, exist_ok=True)
    app.register_blueprint(visits.bp)

    @app.route("/")
    def index():
        return render_template("index.html", title=app.config["TITLE"], unit=app.config["UNIT"])

    return app
