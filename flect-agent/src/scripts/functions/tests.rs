use super::*;

fn prefix() -> Prefix {
    Prefix::parse("{abc}").unwrap()
}

#[test]
fn texts_come_back_byte_for_byte() {
    for text in [
        "#!lua name=a\nredis.register_function('f', function(k, a) return redis.call('GET', k[1]) end)",
        "#!Lua   name=\"a\"\t\r\n\nlocal call = redis.call\nlocal f = function() return call('x') end",
        "#!lua name=a\n",
        "#!lua name=a\n--]] x ]]\n((return redis.call(1)))",
    ] {
        let library = Library::parse(text.as_bytes()).unwrap();
        assert_eq!(library.name, "a");
        let server = library.server_text(&prefix(), 16);
        let shown = String::from_utf8_lossy(&server).into_owned();
        assert!(
            shown.starts_with("#!lua name=flect_abc_a\n--[[flect 1 "),
            "{shown}"
        );
        assert_eq!(shown.lines().count(), text.lines().count().max(2), "{text}");
        assert_eq!(Library::app_text(&server).as_deref(), Some(text.as_bytes()));
        for placeholder in [
            "STORE",
            "COMMANDS",
            "DATABASES",
            "KNOWN",
            "SHIM",
            "WORDS",
            "NAMES",
            "GIVEN",
            "ENTER",
            "user_script",
        ] {
            assert!(!shown.contains(placeholder), "{placeholder}");
        }
    }
    assert_eq!(Library::app_text(b"#!lua name=a\nfoo"), None);
    assert_eq!(
        Library::app_text(b"#!lua name=a\n--[[flect 1 zz 3 ]]"),
        None
    );
}

#[test]
fn a_librarys_words_may_be_those_of_places() {
    let text = "#!lua name=a\nKNOWN = 1 WALKS = 2 server.register_function('STORE', function() return server.call('KEYS', '*') end)";
    let library = Library::parse(text.as_bytes()).unwrap();
    let server = library.server_text(&prefix(), 16);
    let shown = String::from_utf8_lossy(&server).into_owned();
    assert!(shown.contains("{['STORE']='d',}"), "{shown}");
    assert!(shown.contains("'KNOWN',0,'WALKS',0,"), "{shown}");
    assert_eq!(Library::app_text(&server).as_deref(), Some(text.as_bytes()));
}

#[test]
fn first_lines_are_read_as_the_server_reads_them() {
    let error = |text: &[u8]| Library::parse(text).unwrap_err();
    assert_eq!(error(b"lua"), "Missing library metadata");
    assert_eq!(error(b"#!lua name=a"), "Invalid library metadata");
    assert_eq!(error(b"#!lua\0 name=a\n"), "Invalid library metadata");
    assert_eq!(error(b"#!lua name=\"a\n"), "Invalid library metadata");
    assert_eq!(error(b"#!lua \"name=a\"b\n"), "Invalid library metadata");
    assert_eq!(error(b"#!lua\n"), "Library name was not given");
    assert_eq!(
        error(b"#!lua foo=1 name=a\n"),
        "Invalid metadata value given: foo=1"
    );
    assert!(error(b"#!lua name=a NAME=b\n").contains("multiple times"));
    assert_eq!(error(b"#!lua name=a-b\n"), BAD_NAME);
    assert_eq!(error(b"#!lua name=\n"), BAD_NAME);
    assert_eq!(error(b"#!js name=a\n"), "Engine 'js' not found");
    assert_eq!(Library::parse(b"#!lua \"\\x6eame=a\"\n").unwrap().name, "a");
    assert_eq!(Library::parse(b"#!lua 'name=a'\n").unwrap().name, "a");
}

#[test]
fn no_stores_names_begin_as_anothers() {
    let names = FunctionNames::of(&prefix());
    assert_eq!(names.of_server(b"f"), b"flect_abc_f");
    assert_eq!(names.of_app(b"flect_abc_f"), Some(b"f".as_slice()));
    for other in ["flect_abcd_f", "flect_ab_c_f", "f", "flect_ABC_f"] {
        assert_eq!(names.of_app(other.as_bytes()), None);
    }
}

#[test]
fn errors_of_the_shim_are_the_servers() {
    let names = FunctionNames::of(&prefix());
    let said = |text: &str| {
        load_error(
            &format!("ERR Error registering functions: ERR user_function:{text}"),
            &names,
        )
    };
    assert_eq!(
        said("2: bad argument #1 to 'second_argument' (function expected, got number)"),
        "ERR Error registering functions: ERR second argument to server.register_function must be a function"
    );
    assert_eq!(
        said("3: attempt to call field 'call' (a nil value)"),
        "ERR Error registering functions: ERR user_function:3: Script attempted to access nonexistent global variable 'call'"
    );
    assert_eq!(
        said("3: x"),
        "ERR Error registering functions: ERR user_function:3: x"
    );
    assert_eq!(
        load_error("ERR Function flect_abc_f already exists", &names),
        "ERR Function f already exists"
    );
}
