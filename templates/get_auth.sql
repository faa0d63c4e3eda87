-- Returns the verifier of a user that may log in. For every other name it returns a stand-in: a user name with a
-- verifier that matches no password. So PgBouncer keeps its server connection, and asks the client for a proof as
-- usual. There are only 16 stand-ins, because PgBouncer remembers every name that it reads here.
-- No client can give the proof for a stand-in: it would need 32 bytes whose SHA-256 is the stored key, and the stored
-- key is the SHA-256 of a longer text. That text contains the verifier of the auth user, which clients do not know.
-- PL/pgSQL keeps the plan of a query in its session. A function in SQL is planned at each call before PostgreSQL 18,
-- which takes longer than the query.
BEGIN
    RETURN QUERY
    SELECT coalesce(a.rolname::pg_catalog.text, n.name),
           coalesce(
               a.rolpassword,
               'SCRAM-SHA-256$4096:'
               OPERATOR(pg_catalog.||) pg_catalog.encode(pg_catalog.substr(k.salt, 1, 16), 'base64')
               OPERATOR(pg_catalog.||) '$'
               OPERATOR(pg_catalog.||) pg_catalog.encode(k.stored, 'base64')
               OPERATOR(pg_catalog.||) ':'
               OPERATOR(pg_catalog.||) pg_catalog.encode(k.server, 'base64')
           )
    FROM (
        SELECT pg_catalog.convert_to(rolpassword, pg_catalog.getdatabaseencoding())
        FROM pg_catalog.pg_authid
        WHERE rolname OPERATOR(pg_catalog.=) SESSION_USER
    ) AS s (secret)
    CROSS JOIN LATERAL (
        SELECT 'pgbouncer_unknown_' OPERATOR(pg_catalog.||) (
            pg_catalog.get_byte(
                pg_catalog.sha256(
                    s.secret OPERATOR(pg_catalog.||)
                    pg_catalog.convert_to(p_username, pg_catalog.getdatabaseencoding())
                ),
                0
            ) OPERATOR(pg_catalog.%) 16
        )::pg_catalog.text
    ) AS n (name)
    CROSS JOIN LATERAL (
        SELECT s.secret OPERATOR(pg_catalog.||)
               pg_catalog.convert_to(n.name, pg_catalog.getdatabaseencoding())
    ) AS t (text)
    CROSS JOIN LATERAL (
        SELECT pg_catalog.sha256('salt of '::pg_catalog.bytea OPERATOR(pg_catalog.||) t.text),
               pg_catalog.sha256('stored key of '::pg_catalog.bytea OPERATOR(pg_catalog.||) t.text),
               pg_catalog.sha256('server key of '::pg_catalog.bytea OPERATOR(pg_catalog.||) t.text)
    ) AS k (salt, stored, server)
    LEFT JOIN pg_catalog.pg_authid AS a
        ON a.rolname OPERATOR(pg_catalog.=) p_username
        AND a.rolcanlogin
        AND NOT a.rolsuper
        AND NOT a.rolreplication
        AND NOT a.rolbypassrls
        AND (a.rolvaliduntil IS NULL OR a.rolvaliduntil OPERATOR(pg_catalog.>) pg_catalog.now())
        AND pg_catalog.starts_with(a.rolpassword, 'SCRAM-SHA-256$')
        AND NOT pg_catalog.starts_with(p_username, 'pgbouncer_unknown_');
END
