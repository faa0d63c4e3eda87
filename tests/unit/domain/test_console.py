from domain.console import PooledDatabase, most_connections


def test_a_process_has_as_many_connections_as_to_its_busiest_database():
    def has(alias, database, connections):
        return PooledDatabase(alias=alias, database=database, connections=connections, most=0)

    found = [has("shop", "shop", 3), has("shop_readonly", "shop", 2), has("blog", "blog", 4)]
    assert most_connections(found) == 5
    assert most_connections([]) == 0
