"""The demo: a web page that tracks, corrects, describes and exports (`elysium demo`, and the Space).

Needs the extra `demo`; nothing here is carried by a checkpoint, and nothing else imports it.
"""
