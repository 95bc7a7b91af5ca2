from dotenv import load_dotenv

load_dotenv(override=True)

from counter import create_app

app = create_app()
