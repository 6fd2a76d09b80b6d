use super::*;

const SMALLEST: &str = "[valkey]\naddress = \"127.0.0.1:6379\"\n";

#[test]
fn the_smallest_config_has_defaults() {
    let config = Config::parse(SMALLEST).unwrap();
    assert_eq!(config.intercept_ports(), [6379]);
    let networks = ["127.0.0.0/8", "::1/128"].map(|net| net.parse::<IpNet>().unwrap());
    assert_eq!(config.intercept_networks().unwrap(), networks);
    assert_eq!(config.intercept.listen_port, LISTEN_PORT_DEFAULT);
    assert_eq!(config.valkey.user, "default");
}

#[test]
fn a_remote_valkey_is_intercepted_at_its_own_address() {
    let config = Config::parse("[valkey]\naddress = \"10.1.2.3:6379\"\n").unwrap();
    let networks = ["10.1.2.3/32".parse::<IpNet>().unwrap()];
    assert_eq!(config.intercept_networks().unwrap(), networks);
}

#[test]
fn the_shipped_sample_is_valid() {
    let config = Config::parse(include_str!("../../../config/agent.toml")).unwrap();
    assert!(!config.apps.is_empty());
}

#[test]
fn sentinels_and_nodes_are_taken() {
    let check = |more: &str, reached: &str| {
        let config = Config::parse(&format!("{SMALLEST}{more}")).unwrap();
        assert_eq!(config.valkey.reached_at(), reached);
        config
    };
    let config = check(
        "nodes = ['10.0.0.2:6380', '[::2]:1']\n",
        "10.0.0.2:6380, [::2]:1",
    );
    // Apps must not reach a node by themselves.
    assert_eq!(config.intercept_ports(), [1, 6379, 6380]);
    let told = "[valkey.sentinel]\nmaster = 'm'\naddresses = ['a:1', 'b:2']\ntls = true\n";
    let config = check(&format!("{told}[valkey.tls]\n"), "m by Sentinels a:1, b:2");
    assert_eq!(config.closed_ports(), [1, 2]);
    let config = check(
        "cluster = ['10.0.0.2:7000', '10.0.0.3:60000']\n[intercept]\nclosed_ports = [17001, 17000]\n",
        "the cluster of 10.0.0.2:7000, 10.0.0.3:60000",
    );
    // No bus is above the last port.
    assert_eq!(config.closed_ports(), [16379, 17000, 17001]);
}

#[test]
fn mistakes_are_named_with_their_place() {
    let check = |more: &str, place: &str, words: &str| {
        let error = Config::parse(&format!("{SMALLEST}{more}")).unwrap_err();
        assert!(error.contains(place), "{more}: no '{place}' in: {error}");
        assert!(error.contains(words), "{more}: no '{words}' in: {error}");
    };
    check(
        "pasword_file = 'x'\n",
        "line 3, column 1",
        "unknown field `pasword_file`",
    );
    check(
        "[valkey.tls]\ncertficate = 'c'\n",
        "line 4, column 1",
        "unknown field `certficate`",
    );
    check(
        "[valkey.tls]\ncertificate = 'c'\n",
        "valkey.tls.key",
        "needs both",
    );
    check(
        "socket = '/s'\n[valkey.tls]\n",
        "valkey.socket",
        "leave it out",
    );
    check(
        "socket = '/s'\nnodes = ['a:1']\n",
        "valkey.socket",
        "leave it out",
    );
    check(
        "socket = '/s'\n[valkey.sentinel]\nmaster = 'm'\naddresses = ['a:1']\n",
        "valkey.socket",
        "leave it out",
    );
    check(
        "nodes = ['a:1']\n[valkey.sentinel]\nmaster = 'm'\naddresses = ['a:2']\n",
        "valkey.nodes, valkey.sentinel and valkey.cluster",
        "choose",
    );
    check("nodes = ['a:x']\n", "line 3, column 9", "");
    for nobody in [
        "master = ''\naddresses = ['a:1']",
        "master = 'm'\naddresses = []",
    ] {
        check(
            &format!("[valkey.sentinel]\n{nobody}\n"),
            "valkey.sentinel",
            "at least one of addresses",
        );
    }
    let sentinel = "[valkey.sentinel]\nmaster = 'm'\naddresses = ['a:1']\n";
    check(
        &format!("{sentinel}user = 'u'\n"),
        "valkey.sentinel.user",
        "needs a password_file",
    );
    check(
        &format!("{sentinel}tls = true\n"),
        "valkey.sentinel.tls",
        "[valkey.tls], which is not there",
    );
    check(
        &format!("{sentinel}port = 1\n"),
        "line 6, column 1",
        "unknown field `port`",
    );
    check(
        "[intercept]\nports = [70000]\n",
        "line 4, column 10",
        "70000",
    );
    check(
        "[intercept]\nports = [1, 2]\nclosed_ports = [3, 2]\n",
        "",
        "intercept.closed_ports: 2 is intercepted",
    );
    check(
        "[intercept]\nlisten_port = 16379\nclosed_ports = [16379]\n",
        "",
        "16379 is closed to apps",
    );
    check(
        "[intercept]\naddresses = ['10.0.0']\n",
        "line 4, column 13",
        "no address or network",
    );
    check(
        "[intercept]\nacceleration = 'fast'\n",
        "line 4, column 16",
        "auto",
    );
    check(
        "[agent.metrics]\nlisten = '0.0.0.0:15381'\n",
        "line 4, column 10",
        "of loopback",
    );
    check(
        "[agent.metrics]\nlisten = '127.0.0.1:15381'\n",
        "",
        "agent.metrics.token_file",
    );
    check(
        "[[app]]\nname = 'a'\ncgroups = ['a']\nstores = ['s']\n",
        "line 5, column 11",
        "no cgroup pattern",
    );
    check(
        "[[app]]\nname = 'a'\ncgroups = ['/a']\nstores = ['S!']\n",
        "line 6, column 10",
        "no store name",
    );
    check(
        "[[app]]\nname = 'a'\ncgroups = []\nstores = ['s']\n",
        "app 'a'",
        "at least one",
    );
    check(
        "[intercept]\nlisten_port = 6379\n",
        "listen_port",
        "intercepted itself",
    );
    check(
        "[intercept]\nenabled = false\n",
        "intercept.enabled",
        "explicit.listen",
    );
    check(
        "[explicit]\nlisten = ['127.0.0.1']\n",
        "line 4, column 11",
        "socket address",
    );
    check(
        "[explicit]\ntls_key = 'k'\n",
        "tls_certificate",
        "needs both",
    );
    check(
        "[agent]\nstatus_page = '0.0.0.0:80'\n",
        "line 4, column 15",
        "loopback",
    );
    check(
        "[agent]\noperators = ['a b']\n",
        "line 4, column 13",
        "no user or group",
    );
    check(
        "[[app]]\nname = '../a'\ncgroups = ['/a']\nstores = ['s']\n",
        "app '../a'",
        "names a cgroup",
    );
}

#[test]
fn endpoints_are_host_and_port() {
    for (good, host, port) in [
        ("a.example:1", "a.example", 1),
        ("[::1]:6379", "::1", 6379),
        ("127.0.0.1:65535", "127.0.0.1", 65535),
    ] {
        let endpoint = Endpoint::try_from(good.to_owned()).unwrap();
        assert_eq!((endpoint.host.as_str(), endpoint.port), (host, port));
        assert_eq!(endpoint.to_string(), good);
    }
    for bad in ["", "a", ":1", "a:", "a:0", "a:99999", "::1:6379"] {
        assert!(Endpoint::try_from(bad.to_owned()).is_err(), "{bad}");
    }
}
