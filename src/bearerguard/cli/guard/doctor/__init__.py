"""`bearerguard doctor`: checks an issuer, an API or a server by requests, and changes nothing.

`exchange` sends the requests and bounds them; `issuer`, `api` and `server` choose them and check
what came back; `keys`, `web` and `store` hold the checks that need no network. `command` runs and
prints.
"""
