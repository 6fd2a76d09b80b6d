use super::*;

const CONFIG: &str = "[valkey]\naddress = \"127.0.0.1:6379\"\n[explicit]\nlisten = [\"127.0.0.1:0\"]\n\
    [[app]]\nname = \"shop\"\ncgroups = [\"/shop\", \"/**\"]\nstores = [\"cache\", \"sessions\"]\n\
    [[app]]\nname = \"billing\"\ncgroups = [\"/shop/billing\"]\nstores = [\"bills\"]\n";

fn slug(name: &str) -> Slug {
    Slug::try_from(name.to_owned()).unwrap()
}

fn record(name: &str) -> Record {
    Record::new(
        Prefix::parse(&format!("{{{name}}}")).unwrap(),
        Limits::default(),
    )
}

/// Everything that is in the registry and not being filled, served.
fn serving(snapshot: &Snapshot) -> Serving {
    let nobody = Credentials {
        user: String::new(),
        password: String::new(),
    };
    let served = snapshot.stores.iter().map(|(slug, record)| {
        let store = Store::new(0, slug, record, nobody.clone(), nobody.clone());
        (record.prefix.clone(), Arc::new(store))
    });
    Serving::new(&Config::parse(CONFIG).unwrap(), snapshot, &served.collect())
}

fn snapshot(names: &[&str]) -> Snapshot {
    let stores = names.iter().map(|name| (slug(name), record(name)));
    Snapshot {
        stores: stores.collect(),
        ..Snapshot::default()
    }
}

#[test]
fn an_app_without_its_default_store_gets_no_other() {
    let serving = serving(&snapshot(&["sessions"]));
    let shop = serving.workload("shop").unwrap();
    let State::Absent {
        store,
        absence,
        others,
    } = &shop.state
    else {
        panic!("its default store is not there");
    };
    assert_eq!((store, *absence), (&slug("cache"), Absence::Missing));
    assert!(others.default_store().is_retired());
    assert!(others.store(b"default").is_none() && others.store(b"cache").is_none());
    assert!(others.store(b"sessions").is_some());
    assert_eq!(shop.missing().collect::<Vec<_>>(), [&slug("cache")]);
}

#[test]
fn an_app_without_another_store_is_served() {
    let serving = serving(&snapshot(&["cache"]));
    let State::Ready(app) = &serving.workload("shop").unwrap().state else {
        panic!("its default store is there");
    };
    assert_eq!(app.stores.len(), 1);
    assert!(app.store(b"sessions").is_none());
}

#[test]
fn a_store_that_is_being_filled_is_not_there_yet() {
    let mut snapshot = snapshot(&["cache", "sessions"]);
    snapshot.stores.get_mut(&slug("cache")).unwrap().filling = true;
    let serving = serving(&snapshot);
    let shop = serving.workload("shop").unwrap();
    let absence = Absence::Filling;
    assert!(matches!(&shop.state, State::Absent { absence: why, .. } if *why == absence));
}

#[test]
fn a_renamed_store_is_found_by_the_name_in_the_configuration() {
    let mut snapshot = snapshot(&["new"]);
    snapshot
        .aliases
        .insert(slug("cache"), Prefix::parse("{new}").unwrap());
    let serving = serving(&snapshot);
    assert!(matches!(
        serving.workload("shop").unwrap().state,
        State::Ready(_)
    ));
}

#[test]
fn run_cgroups_belong_to_the_app_they_name() {
    let serving = serving(&snapshot(&["cache", "bills"]));
    let apps = Config::parse(CONFIG).unwrap().apps;
    for root in ["/", "/managed"] {
        let places = Places::new(root, "/agent");
        let name = |path: &str| {
            let found = serving.claimant(&places, path);
            let found = found.map(|workload| workload.name.clone());
            let early = claimant(&apps, &places, path).map(str::to_owned);
            assert_eq!(early, found, "{path} before anything is served");
            found
        };
        let run = places.run.clone();
        assert_eq!(name("/shop").as_deref(), Some("shop"));
        assert_eq!(
            name(&format!("{run}/billing/1")).as_deref(),
            Some("billing")
        );
        assert_eq!(
            name(&format!("{run}/billing/1/deep")).as_deref(),
            Some("billing")
        );
        // A pattern such as /** reaches everything but these.
        assert_eq!(name(&format!("{run}/gone/1")), None);
        assert_eq!(name(&run), None);
        assert_eq!(name(&format!("{run}x/billing/1")).as_deref(), Some("shop"));
    }
}

#[test]
fn doors_open_with_the_stores_own_token_only() {
    let mut snapshot = snapshot(&["cache", "bills", "free"]);
    for (name, token) in [("cache", "one"), ("bills", "two")] {
        let record = snapshot.stores.get_mut(&slug(name)).unwrap();
        record.token = Some(TokenDigest::of(token.as_bytes()));
    }
    snapshot
        .aliases
        .insert(slug("old"), Prefix::parse("{cache}").unwrap());
    let open = |snapshot: &Snapshot, user: &str, token: &str| {
        let doors = serving(snapshot).doors;
        let app = match user {
            "" => doors.open_unnamed(token.as_bytes()),
            user => doors.open(user.as_bytes(), token.as_bytes()),
        };
        app.map(|app| app.default_store().slug().to_string())
    };
    for (user, token, store) in [
        ("cache", "one", Some("cache")),
        ("old", "one", Some("cache")),
        ("cache", "two", None),
        ("bills", "one", None),
        ("free", "", None),
        ("free", "x", None),
        ("nobody", "one", None),
        ("", "two", Some("bills")),
        ("", "three", None),
    ] {
        assert_eq!(
            open(&snapshot, user, token).as_deref(),
            store,
            "{user} {token}"
        );
    }
    let bills = snapshot.stores.get_mut(&slug("bills")).unwrap();
    bills.token = Some(TokenDigest::of(b"one"));
    assert_eq!(open(&snapshot, "", "one"), None, "two stores have it");
    assert_eq!(open(&snapshot, "bills", "one").as_deref(), Some("bills"));
}
