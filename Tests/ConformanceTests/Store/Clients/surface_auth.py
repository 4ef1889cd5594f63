"""Auth: users, roles, permissions, tokens, and what each call is refused for."""


from store_client import auth, lock, rpc
from surface_tools import delete, get, put, txn
from surface_watch import Watches



def permission(kind, key, end=b""):
    return auth.Permission(permType=kind, key=key, range_end=end)


READ, WRITE, READWRITE = 0, 1, 2


def users_and_roles(surface):
    a = lambda name, method, request, mask=(): surface.call(name, f"auth.{method}", request, mask)
    a("status", "AuthStatus", rpc.AuthStatusRequest())
    a("enable without root", "AuthEnable", rpc.AuthEnableRequest())
    a("disable while off", "AuthDisable", rpc.AuthDisableRequest())
    a("log in while off", "Authenticate", rpc.AuthenticateRequest(name="root", password="x"))
    a("a user", "UserAdd", rpc.AuthUserAddRequest(name="u", password="p"))
    a("a user again", "UserAdd", rpc.AuthUserAddRequest(name="u", password="p"))
    a("a user without a name", "UserAdd", rpc.AuthUserAddRequest(password="p"))
    a("a user without a password", "UserAdd", rpc.AuthUserAddRequest(name="empty"))
    a("a user that needs none", "UserAdd", rpc.AuthUserAddRequest(
        name="n", options={"no_password": True}))
    a("a role", "RoleAdd", rpc.AuthRoleAddRequest(name="r"))
    a("a role again", "RoleAdd", rpc.AuthRoleAddRequest(name="r"))
    a("a role without a name", "RoleAdd", rpc.AuthRoleAddRequest())
    a("users", "UserList", rpc.AuthUserListRequest())
    a("roles", "RoleList", rpc.AuthRoleListRequest())
    a("the user", "UserGet", rpc.AuthUserGetRequest(name="u"))
    a("no such user", "UserGet", rpc.AuthUserGetRequest(name="nobody"))
    a("no user's name", "UserGet", rpc.AuthUserGetRequest())
    a("the role", "RoleGet", rpc.AuthRoleGetRequest(role="r"))
    a("no such role", "RoleGet", rpc.AuthRoleGetRequest(role="nothing"))
    a("the root role", "RoleGet", rpc.AuthRoleGetRequest(role="root"))
    grant = lambda name, role, perm: a(name, "RoleGrantPermission", rpc.AuthRoleGrantPermissionRequest(
        name=role, perm=perm))
    grant("may read", "r", permission(READ, b"a"))
    grant("may read it again", "r", permission(READ, b"a"))
    grant("may write it too", "r", permission(WRITE, b"a"))
    grant("may do both", "r", permission(READWRITE, b"b", b"d"))
    grant("may do both from z", "r", permission(READWRITE, b"z", b"\x00"))
    grant("backwards", "r", permission(READ, b"d", b"b"))
    grant("no key", "r", permission(READ, b""))
    grant("everything", "r", permission(READ, b"", b"\x00"))
    grant("no such role to grant", "nothing", permission(READ, b"a"))
    a("no permission", "RoleGrantPermission", rpc.AuthRoleGrantPermissionRequest(name="r"))
    a("the role has", "RoleGet", rpc.AuthRoleGetRequest(role="r"))
    give = lambda name, user, role: a(name, "UserGrantRole", rpc.AuthUserGrantRoleRequest(user=user, role=role))
    give("give the role", "u", "r")
    give("give it again", "u", "r")
    give("give no such role", "u", "nothing")
    give("give to nobody", "nobody", "r")
    give("give root", "u", "root")
    a("the user has", "UserGet", rpc.AuthUserGetRequest(name="u"))
    take = lambda name, role, key, end=b"": a(name, "RoleRevokePermission", rpc.AuthRoleRevokePermissionRequest(
        role=role, key=key, range_end=end))
    take("take a permission", "r", b"a")
    take("take it again", "r", b"a")
    take("take part of one", "r", b"b", b"c")
    take("take from no such role", "nothing", b"b", b"d")
    revoke = lambda name, user, role: a(name, "UserRevokeRole", rpc.AuthUserRevokeRoleRequest(
        name=user, role=role))
    revoke("take the role", "u", "r")
    revoke("take it again from the user", "u", "r")
    revoke("take a role from nobody", "nobody", "r")
    a("change a password", "UserChangePassword", rpc.AuthUserChangePasswordRequest(name="u", password="q"))
    a("change nobody's", "UserChangePassword", rpc.AuthUserChangePasswordRequest(name="nobody", password="q"))
    a("change one that needs none", "UserChangePassword", rpc.AuthUserChangePasswordRequest(
        name="n", password="q"))
    a("delete a role", "RoleDelete", rpc.AuthRoleDeleteRequest(role="r"))
    a("delete it again", "RoleDelete", rpc.AuthRoleDeleteRequest(role="r"))
    a("delete a user", "UserDelete", rpc.AuthUserDeleteRequest(name="u"))
    a("delete him again", "UserDelete", rpc.AuthUserDeleteRequest(name="u"))
    a("root without its role", "UserAdd", rpc.AuthUserAddRequest(name="root", password="p"))
    a("enable before it has it", "AuthEnable", rpc.AuthEnableRequest())
    give("give root its role before there is one", "root", "root")
    a("the root role itself", "RoleAdd", rpc.AuthRoleAddRequest(name="root"))
    give("give root its role", "root", "root")
    a("status before", "AuthStatus", rpc.AuthStatusRequest())
    a("enable", "AuthEnable", rpc.AuthEnableRequest())
    log_in(surface, "root", "p")
    a("enable again", "AuthEnable", rpc.AuthEnableRequest())
    a("status after", "AuthStatus", rpc.AuthStatusRequest())
    a("delete root", "UserDelete", rpc.AuthUserDeleteRequest(name="root"))
    a("take root's role", "UserRevokeRole", rpc.AuthUserRevokeRoleRequest(name="root", role="root"))
    a("delete the root role", "RoleDelete", rpc.AuthRoleDeleteRequest(role="root"))
    a("disable", "AuthDisable", rpc.AuthDisableRequest())
    surface.token = None
    a("after all", "UserList", rpc.AuthUserListRequest())


def log_in(surface, name, password):
    surface.token = None
    surface.token = surface.quiet("auth.Authenticate", rpc.AuthenticateRequest(name=name, password=password)).token


def set_up(surface):
    q = surface.quiet
    for user in ["root", "u", "w", "nobody"]:
        q("auth.UserAdd", rpc.AuthUserAddRequest(name=user, password=user))
    for role in ["root", "r", "writer"]:
        q("auth.RoleAdd", rpc.AuthRoleAddRequest(name=role))
    q("auth.UserGrantRole", rpc.AuthUserGrantRoleRequest(user="root", role="root"))
    q("auth.UserGrantRole", rpc.AuthUserGrantRoleRequest(user="u", role="r"))
    q("auth.UserGrantRole", rpc.AuthUserGrantRoleRequest(user="w", role="writer"))
    for role, perm in [("r", permission(READ, b"a", b"c")), ("r", permission(READ, b"c", b"e")),
                       ("r", permission(WRITE, b"b", b"d")), ("r", permission(READWRITE, b"z", b"\x00")),
                       ("writer", permission(WRITE, b"a", b"c")),
                       ("r", permission(READWRITE, b"lock/", b"lock0"))]:
        q("auth.RoleGrantPermission", rpc.AuthRoleGrantPermissionRequest(name=role, perm=perm))
    for key in [b"a", b"b", b"c", b"d", b"e", b"z"]:
        q("kv.Put", put(key, b"1"))
    q("lease.LeaseGrant", rpc.LeaseGrantRequest(TTL=600, ID=50))
    q("kv.Put", put(b"e", b"1", lease=50))
    q("lease.LeaseGrant", rpc.LeaseGrantRequest(TTL=600, ID=51))
    q("kv.Put", put(b"b", b"1", lease=51))
    q("auth.AuthEnable", rpc.AuthEnableRequest())


def calls(surface, who):
    """What each user may do."""
    call = lambda name, method, request, mask=(): surface.call(f"{who}: {name}", method, request, mask)
    C = rpc.Compare
    for title, arguments in {"a": (b"a",), "a to c": (b"a", b"c"), "a to e": (b"a", b"e"), "a to f": (b"a", b"f"),
                             "from z": (b"z", b"\x00"), "from y": (b"y", b"\x00"), "e": (b"e",),
                             "all": (b"\x00", b"\x00"), "backwards": (b"c", b"a"), "no key": (b"",)}.items():
        call(f"read {title}", "kv.Range", get(*arguments, count_only=True))
        call(f"delete {title}", "kv.DeleteRange", delete(*arguments))
    for key in [b"a", b"b", b"c", b"d", b"e", b"z1"]:
        call(f"put {key}", "kv.Put", put(key, b"1"))
        call(f"put {key} and tell the previous", "kv.Put", put(key, b"1", prev_kv=True))
    call("delete and tell the previous", "kv.DeleteRange", delete(b"a", b"c", prev_kv=True))
    call("compare", "kv.Txn", txn([C(key=b"e", target=C.VERSION)]))
    call("compare a range", "kv.Txn", txn([C(key=b"a", range_end=b"e", target=C.VERSION)]))
    call("write in a transaction", "kv.Txn", txn(success=[put(b"b", b"2"), get(b"a")]))
    call("the branch not taken", "kv.Txn", txn(success=[put(b"b", b"2")], failure=[get(b"e")]))
    call("nested", "kv.Txn", txn(success=[txn(success=[txn(failure=[put(b"e")])])]))
    call("attach to another's lease", "kv.Put", put(b"b", b"1", lease=50))
    call("grant a lease", "lease.LeaseGrant", rpc.LeaseGrantRequest(TTL=100, ID=60 + len(who)))
    call("time of another's", "lease.LeaseTimeToLive", rpc.LeaseTimeToLiveRequest(ID=50), ["TTL"])
    call("keys of another's", "lease.LeaseTimeToLive", rpc.LeaseTimeToLiveRequest(ID=50, keys=True), ["TTL"])
    call("revoke another's", "lease.LeaseRevoke", rpc.LeaseRevokeRequest(ID=50))
    call("compact", "kv.Compact", rpc.CompactionRequest(revision=1))
    call("users", "auth.UserList", rpc.AuthUserListRequest())
    call("himself", "auth.UserGet", rpc.AuthUserGetRequest(name="u"))
    call("another", "auth.UserGet", rpc.AuthUserGetRequest(name="w"))
    call("his role", "auth.RoleGet", rpc.AuthRoleGetRequest(role="r"))
    call("another's role", "auth.RoleGet", rpc.AuthRoleGetRequest(role="writer"))
    call("roles", "auth.RoleList", rpc.AuthRoleListRequest())
    call("add a user", "auth.UserAdd", rpc.AuthUserAddRequest(name="new" + who, password="x"))
    call("add a role", "auth.RoleAdd", rpc.AuthRoleAddRequest(name="new" + who))
    call("his own password", "auth.UserChangePassword", rpc.AuthUserChangePasswordRequest(name="nobody", password="nobody"))
    call("status of auth", "auth.AuthStatus", rpc.AuthStatusRequest())
    call("defragment", "maintenance.Defragment", rpc.DefragmentRequest())
    call("hash", "maintenance.HashKV", rpc.HashKVRequest(), ["hash"])
    call("add a member", "cluster.MemberAdd", rpc.MemberAddRequest(peerURLs=["http://127.0.0.1:1"], isLearner=True),
         ["member", "members", "code", "details"] if who == "root" else ())
    w = Watches(surface, who, metadata=[("token", surface.token)] if surface.token else None)
    for watch_id, (key, end) in enumerate([(b"a", b""), (b"a", b"e"), (b"e", b""), (b"\x00", b"\x00")], start=1):
        w.create(key, end, watch_id=watch_id)
        w.receive(f"{who}: watch {key} {end}")
    w.close()
    call("lock", "lock.Lock", lock.LockRequest(name=b"lock/x", lease=51))
    call("unlock", "lock.Unlock", lock.UnlockRequest(key=b"lock/x/33"))
    call("lock another's", "lock.Lock", lock.LockRequest(name=b"other", lease=51))


def rights(surface):
    set_up(surface)
    calls(surface, "nobody at all")
    surface.token = "made.up"
    surface.call("an invented token", "kv.Range", get(b"a"))
    surface.token = None
    for name, password in [("u", "wrong"), ("stranger", "x"), ("", ""), ("u", "")]:
        surface.call(f"log in as {name} with {password}", "auth.Authenticate",
                     rpc.AuthenticateRequest(name=name, password=password))
    surface.call("log in", "auth.Authenticate", rpc.AuthenticateRequest(name="u", password="u"), ["token"])
    for who in ["nobody", "u", "w", "root"]:
        log_in(surface, who, who)
        calls(surface, who)
    log_in(surface, "u", "u")
    old = surface.token
    log_in(surface, "root", "root")
    surface.quiet("auth.UserRevokeRole", rpc.AuthUserRevokeRoleRequest(name="u", role="r"))
    surface.token = old
    surface.call("after the role was taken", "kv.Range", get(b"a"))
    log_in(surface, "root", "root")
    surface.quiet("auth.UserDelete", rpc.AuthUserDeleteRequest(name="u"))
    surface.token = old
    surface.call("after the user was deleted", "kv.Range", get(b"a"))
    surface.token = None


SECTIONS = {"auth-users": users_and_roles, "auth-rights": rights}
