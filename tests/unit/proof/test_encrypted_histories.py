"""Histories of an application whose clients and PostgreSQL use certificates, which are renewed and replaced."""

import time
from unittest import mock

from history_checks import names_of
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule
from profiles import LONG_HISTORIES
from proof.test_histories import History
from removals import MOST_UNITS
from tls_in_memory import OTHER, ROOT, certificate, pair_of

from domain.certificate_logins import ClientCertificate
from domain.settings import Settings
from domain.tls import UnitCertificates, certificates_in

AUTHORITIES = (ROOT, OTHER)


def by_certificate(config):
    """Return the users that log in by certificate."""
    return {user for rule in config.rules if rule.certificate_map for user in rule.users}


class EncryptedHistory(History):
    """A history with an authority for units, certificates of clients, and a PostgreSQL with TLS."""

    @initialize(
        units=st.integers(1, 3), service=st.booleans(), clients=st.integers(0, 2),
        begun=st.booleans(),
    )  # fmt: skip
    def begin(self, units, service, clients, begun):
        self.seconds = 1_000_000.0
        self.clock = mock.patch.object(time, "time", side_effect=lambda: self.seconds)
        self.clock.start()
        # Whether units have an authority, its root, whether it answers, and the number of its next certificate.
        self.related, self.root, self.answering, self.turn = False, ROOT, True, 0
        # The authorities of each chain that was issued.
        self.issued = {}
        # The authorities that PostgreSQL's charm tells, and all that it has told.
        self.told, self.ever = (), set()
        super().begin(units=units, cpus=1, service=service, begun=begun, clients=clients)
        if begun:
            self.postgresql_changes_its_authority((ROOT,), ROOT)
            self.the_authority_of_units_comes_or_goes(goes=False)
            self.every_unit_gets_a_certificate()
            self.every_client_gives_a_certificate()

    def the_sum_of_limits_is_within_the_limit(self):
        """Leave the limits to the histories of proof/test_histories.py."""

    # ---- certificates of units --------------------------------------------------------------
    @rule(goes=st.sampled_from([True, False, False, False]))
    def the_authority_of_units_comes_or_goes(self, goes):
        self.related = not goes

    def hook(self, name, which, last=None):
        """Run a hook, in which the unit sees whether its application is related to an authority."""
        record = self.model.units[name]
        if record.certificates.related != self.related:
            record.certificates = UnitCertificates(
                related=self.related, authority="vault", kept=record.certificates.kept
            )
        super().hook(name, which, last)

    @rule()
    def every_unit_gets_a_certificate(self):
        for _ in range(2):
            for name in list(self.platform.units):
                self.hook(name, "certificates_changed")
                self.issue(name)
            self.every_unit_hears()

    @rule(root=st.sampled_from(AUTHORITIES), answers=st.booleans())
    def the_authority_of_units_changes_or_is_silent(self, root, answers):
        self.root, self.answering = root, answers

    @rule(place=st.integers(0, MOST_UNITS))
    def a_certificate_is_issued(self, place):
        self.issue(list(self.model.units)[place % len(self.model.units)])

    def issue(self, name):
        """The authority answers the request of a unit, if there is one."""
        record = self.model.units[name]
        known = record.certificates
        if known.related and self.answering and known.unanswered:
            self.turn += 1
            pair = pair_of(name, self.root, self.turn)
            self.issued[f"{pair.chain[0]}\n"] = pair.authorities
            update = {"issued": pair, "unanswered": False}
            record.certificates = known.model_copy(update=update)

    @rule(place=st.integers(0, MOST_UNITS))
    def a_certificate_is_due(self, place):
        record = list(self.model.units.values())[place % len(self.model.units)]
        if record.certificates.kept:
            record.certificates = record.certificates.model_copy(update={"due": True})

    @rule(mode=st.sampled_from(["prefer", "require", "disable"]))
    def tls_of_clients_changes(self, mode):
        self.model.options = self.model.options | {"client_tls_sslmode": mode}

    # ---- certificates of clients ------------------------------------------------------------
    @precondition(lambda self: self.model.clients)
    @rule(
        place=st.integers(0, 3),
        name=st.sampled_from(["shop", "pay", "refused", ""]),
        turn=st.integers(0, 1),
    )
    def a_client_gives_a_certificate(self, place, name, turn):
        numbers = list(self.model.clients)
        number = numbers[place % len(numbers)]
        given = ClientCertificate(
            text=certificate(f"{name} {turn} of {number}"), name=name, names=(name,)
        ) if name else None  # fmt: skip
        if name == "refused":
            given = ClientCertificate(problem="because it expired")
        # A client at `db` or `db-admin` cannot give a certificate.
        if not self.model.clients[number].endpoint:
            self.model.clients[number].certificate = given

    @rule()
    def every_client_gives_a_certificate(self):
        for place, name in zip(range(len(self.model.clients)), ("shop", "pay"), strict=False):
            self.a_client_gives_a_certificate(place, name, 0)
        for _ in range(2):
            self.hook(self.model.leader, "clients_changed")
            self.every_unit_hears()
            self.seconds += 121
        self.every_unit_hears()

    @rule(seconds=st.sampled_from([1, 60, 121]))
    def time_passes(self, seconds):
        self.seconds += seconds

    # ---- PostgreSQL -------------------------------------------------------------------------
    @rule(
        told=st.sampled_from([(), (ROOT,), (OTHER,), (ROOT, OTHER)]),
        other=st.sampled_from([None, None, None, "", ROOT, OTHER]),
    )
    def postgresql_changes_its_authority(self, told, other):
        serves = other if other is not None else next(iter(told), "")
        self.told, self.server.authority = told, serves
        self.ever.update(told)
        known = self.model.backend
        if known.credentials:
            login = known.credentials.model_copy(update=self.offered())
            self.model.backend = known.model_copy(update={"credentials": login})

    def offered(self):
        return {
            "tls": bool(self.told), "authorities": self.told, "rooted": bool(self.told),
        }  # fmt: skip

    def answers(self, endpoints, readers):
        super().answers(endpoints, readers)
        self.postgresql_changes_its_authority(self.told, self.server.authority)

    def postgresql_may_be_used(self):
        """Return whether PostgreSQL shows a certificate of an authority that it tells, or needs none.

        No login is sent to another PostgreSQL, so the users of this application stay there.
        """
        plan = self.model.plan
        settings = self.platform.leader.read().settings or (plan and plan.settings) or Settings()
        option = settings.backend_tls_sslmode
        if option == "prefer" or (option == "verify" and not self.told):
            return True
        return self.server.authority in self.told

    @rule(option=st.sampled_from(["verify", "require-verify", "prefer"]))
    def verification_changes(self, option):
        self.model.options = self.model.options | {"backend_tls_sslmode": option}

    # ---- what must hold ---------------------------------------------------------------------
    @invariant()
    def each_certificate_is_a_login_of_its_user_alone(self):
        for unit in self.platform.units.values():
            config = unit.pooler.config
            users = (
                {user for rule in config.rules if rule.certificate_map for user in rule.users}
                if config
                else ()
            )
            for user in users:
                (login,) = (known for known in config.trusted if known.username == user)
                assert login.admitted(self.seconds)
                files = "".join(file.text.get_secret_value() for file in config.client_files[2:])
                # The file has certificates of clients, and no authority.
                assert not {ROOT, OTHER}.intersection(certificates_in(files))
                (ident,) = (file for file in config.pem_files if "client-logins" in file.path)
                line = f'"{login.name}" "{user}"\n'
                assert line in ident.text.get_secret_value()
                assert user in {known.name for known in config.users}

    @invariant()
    def only_authorities_that_postgresql_told_are_trusted(self):
        for unit in self.platform.units.values():
            for instance in unit.pooler.config.instances if unit.pooler.config else ():
                lines = dict(instance.settings)
                if lines.get("server_tls_sslmode") in ("verify-ca", "verify-full"):
                    path = lines["server_tls_ca_file"]
                    (file,) = (f for f in unit.pooler.config.pem_files if f.path == path)
                    assert set(certificates_in(file.text.get_secret_value())) <= self.ever

    @invariant()
    def clients_that_were_told_of_tls_can_verify_each_unit(self):
        for client in self.model.clients.values():
            if not (client.told and client.told.tls):
                continue
            known = set(certificates_in(client.told.tls_ca))
            for name in self.staying():
                if self.sent_to(client.told, name) and name not in self.unheard:
                    self.check_verifiable(name, known)

    def check_verifiable(self, name, known):
        pooler = self.platform.units[name].pooler
        for index in pooler.running:
            lines = dict(pooler.instances()[index].settings)
            assert "client_tls_key_file" in lines or not pooler.instances()[index].pools, name
        if pooler.config and pooler.config.client_files:
            chain = pooler.config.client_files[1].text.get_secret_value()
            assert set(self.issued[chain]) <= known, name

    def check_told(self, before):
        """A client that waits for another database may be told of TLS with the database that it has."""
        now = self.model.clients
        super().check_told(
            {
                number: offer.telling(self.model.plan)
                if offer
                and now[number].told
                and now[number].told == offer.telling(self.model.plan)
                else offer
                for number, offer in before.items()
                if number in now
            }
        )

    # ---- in the end -------------------------------------------------------------------------
    def come_to_rest(self):
        self.answering, self.server.authority = True, self.told[0] if self.told else ""
        self.server.authorities.clear()
        self.model.options = self.model.options | {"backend_tls_sslmode": "verify"}
        if self.model.options.get("client_tls_sslmode") == "require":
            self.model.options = self.model.options | {"client_tls_sslmode": "prefer"}
        # While another option has a wrong value, require-verify goes on.
        if not self.postgresql_may_be_used():
            self.postgresql_changes_its_authority((ROOT,), ROOT)
        for _ in range(2):
            super().come_to_rest()
            for name in self.model.units:
                self.issue(name)
            self.seconds += 1_000
        super().come_to_rest()

    def check_rest(self):
        self.check_certificate_logins()
        plan = self.model.plan
        assert set(plan.upstream.authorities if plan.upstream else ()) <= set(self.told)

    def check_certificate_logins(self):
        plan = self.model.plan
        for name, unit in self.platform.units.items():
            config = unit.pooler.config
            if config is None:
                # The options are not valid, so what the plan requires stays in force.
                assert plan.settings.client_tls_sslmode == "require"
                assert self.model.units[name].certificates.kept is None
                continue
            users = by_certificate(config)
            wanted = {login.username for login in plan.certificate_logins}
            # While a rotation goes on, a client has both names; after that, either of them.
            published = {
                name
                for number, client in self.model.clients.items()
                if client.told
                for name in names_of(number)
            }
            if config.client_files and plan.upstream:
                assert users == wanted & published

    def teardown(self):
        try:
            super().teardown()
        finally:
            if hasattr(self, "clock"):
                self.clock.stop()


TestEncryptedHistories = EncryptedHistory.TestCase
# A step with certificates runs many hooks.
TestEncryptedHistories.settings = settings(
    LONG_HISTORIES, max_examples=LONG_HISTORIES.max_examples // 3
)
