"""Public. One test, every topology: runners, a memory network, and a pytest plugin.

Start reading at `worlds` (an application in each kind of runner), then `plugin` (the marker). Nothing
is imported here: pytest loads the plugin in every run, wanted or not.
"""
