from fissile import Application
from library.pages import Pages
from library.shelf import Shelf

app = Application(Pages, Shelf, name="library")
