SELECT a.rolname::pg_catalog.text, a.rolpassword
FROM pg_catalog.pg_authid AS a
WHERE a.rolname OPERATOR(pg_catalog.=) p_username
  AND a.rolcanlogin
  AND NOT a.rolsuper
  AND NOT a.rolreplication
  AND NOT a.rolbypassrls
  AND (a.rolvaliduntil IS NULL OR a.rolvaliduntil OPERATOR(pg_catalog.>) pg_catalog.now())
