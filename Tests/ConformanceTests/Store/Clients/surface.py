"""Makes every request of etcd's API that clients can make, and prints each answer as a line of JSON.

surface.py SECTION ENDPOINT[,ENDPOINT...] PEER_URL

The same section against two servers gives the same lines, since what may differ is masked: ids, terms, times,
sizes. Unary calls go to the endpoints in turn, so that with several members each answers for all.
"""

import sys

import surface_admin
import surface_auth
import surface_coordination
import surface_http
import surface_kv
import surface_lease
import surface_random
import surface_watch
from surface_tools import Surface

SECTIONS = {}
for module in [surface_kv, surface_random, surface_watch, surface_lease, surface_auth, surface_admin,
               surface_coordination, surface_http]:
    SECTIONS.update(module.SECTIONS)

section = SECTIONS[sys.argv[1]]
section(Surface(sys.argv[2].split(","), sys.argv[3]))
