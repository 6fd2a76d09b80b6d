//! A module that a trial loads into its Valkey: commands that no table of Flect's knows.
//!
//! | command | declares |
//! | --- | --- |
//! | `trial.set key value` | a key spec |
//! | `trial.get key` | first, last and step, as older modules do |
//! | `trial.count number key ...` | a key spec with a number of keys |
//! | `trial.pick title word KEYS key ...` | a key spec with a keyword |
//! | `trial.box get key` | a subcommand's key spec |
//! | `trial.leak key` | a key spec; its reply is the key's name on the server |
//! | `trial.move key` | that keys move, and not where |
//! | `trial.info` | no keys |
//!
//! Invariant: of the server's interface only what is used here is declared, as `valkeymodule.h` has it.
//! Nothing here may panic: the server would go with it.
#![expect(unsafe_code, reason = "a module is called by the server, and calls it")]
#![expect(
    clippy::missing_safety_doc,
    reason = "the one public function is for the server"
)]

use std::ffi::{CStr, c_char, c_int, c_longlong, c_void};
use std::ptr::null;
use std::sync::OnceLock;

type Handle = *mut c_void;
type Handler = unsafe extern "C" fn(Handle, *mut Handle, c_int) -> c_int;
type GetApi = unsafe extern "C" fn(*const c_char, *mut c_void) -> c_int;
type Create = unsafe extern "C" fn(
    Handle,
    *const c_char,
    Option<Handler>,
    *const c_char,
    c_int,
    c_int,
    c_int,
) -> c_int;
type Reply = unsafe extern "C" fn(Handle, Handle) -> c_int;
type Find = unsafe extern "C" fn(Handle, *const c_char) -> Handle;
type Describe = unsafe extern "C" fn(Handle, *const Info) -> c_int;
type Call = unsafe extern "C" fn(Handle, *const c_char, *const c_char, ...) -> Handle;
type ReplyNumber = unsafe extern "C" fn(Handle, c_longlong) -> c_int;
type FreeCall = unsafe extern "C" fn(Handle);
type WrongArity = unsafe extern "C" fn(Handle) -> c_int;

const OK: c_int = 0;
const ERROR: c_int = 1;

/// What is asked of the server.
struct Api {
    create: Create,
    create_subcommand: Create,
    find: Find,
    describe: Describe,
    call: Call,
    reply_string: Reply,
    reply_call: Reply,
    reply_number: ReplyNumber,
    free_call: FreeCall,
    wrong_arity: WrongArity,
}

static API: OnceLock<Api> = OnceLock::new();

/// `ValkeyModuleCommandInfoVersion`.
#[repr(C)]
struct InfoVersion {
    version: c_int,
    history_bytes: usize,
    spec_bytes: usize,
    arg_bytes: usize,
}

/// `ValkeyModuleCommandInfo`.
#[repr(C)]
struct Info {
    version: *const InfoVersion,
    texts: [*const c_char; 3],
    history: *const c_void,
    tips: *const c_char,
    arity: c_int,
    specs: *const Spec,
    args: *const c_void,
}

/// `ValkeyModuleCommandKeySpec`, the unions as their larger members.
#[repr(C)]
#[derive(Clone, Copy)]
struct Spec {
    notes: *const c_char,
    flags: u64,
    begin: c_int,
    begin_at: Begin,
    find: c_int,
    numbers: [c_int; 3],
}

#[repr(C)]
#[derive(Clone, Copy)]
union Begin {
    index: c_int,
    keyword: (*const c_char, c_int),
}

const READS: u64 = 1 | 1 << 4;
const WRITES: u64 = 1 << 2 | 1 << 5;
const INDEX: c_int = 2;
const KEYWORD: c_int = 3;
const RANGE: c_int = 2;
const KEYNUM: c_int = 3;

/// The end of a list of key specs: the server stops at a `begin` of 0.
const END: Spec = Spec {
    notes: null(),
    flags: 0,
    begin: 0,
    begin_at: Begin { index: 0 },
    find: 0,
    numbers: [0; 3],
};

fn at(flags: u64, index: c_int, find: c_int, numbers: [c_int; 3]) -> Spec {
    let begin_at = Begin { index };
    Spec {
        flags,
        begin: INDEX,
        begin_at,
        find,
        numbers,
        ..END
    }
}

/// The server calls this when it loads the module.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ValkeyModule_OnLoad(context: Handle, _: *mut Handle, _: c_int) -> c_int {
    // SAFETY: the server gives a context, whose first field is the function that finds the others.
    unsafe { load(context) }.map_or(ERROR, |()| OK)
}

unsafe fn load(context: Handle) -> Option<()> {
    // SAFETY: as the header's `ValkeyModule_Init` does it; each function has the type it has there.
    unsafe {
        let get: GetApi = std::mem::transmute(*context.cast::<*const c_void>());
        let function = |name: &CStr| -> Option<*const c_void> {
            let mut found: *const c_void = null();
            let result = get(name.as_ptr(), (&raw mut found).cast());
            (result == OK && !found.is_null()).then_some(found)
        };
        type Attribs = unsafe extern "C" fn(Handle, *const c_char, c_int, c_int);
        let attribs: Attribs = std::mem::transmute(function(c"ValkeyModule_SetModuleAttribs")?);
        attribs(context, c"trial".as_ptr(), 1, 1);
        let api = Api {
            create: std::mem::transmute::<*const c_void, Create>(function(
                c"ValkeyModule_CreateCommand",
            )?),
            create_subcommand: std::mem::transmute::<*const c_void, Create>(function(
                c"ValkeyModule_CreateSubcommand",
            )?),
            find: std::mem::transmute::<*const c_void, Find>(function(c"ValkeyModule_GetCommand")?),
            describe: std::mem::transmute::<*const c_void, Describe>(function(
                c"ValkeyModule_SetCommandInfo",
            )?),
            call: std::mem::transmute::<*const c_void, Call>(function(c"ValkeyModule_Call")?),
            reply_string: std::mem::transmute::<*const c_void, Reply>(function(
                c"ValkeyModule_ReplyWithString",
            )?),
            reply_call: std::mem::transmute::<*const c_void, Reply>(function(
                c"ValkeyModule_ReplyWithCallReply",
            )?),
            reply_number: std::mem::transmute::<*const c_void, ReplyNumber>(function(
                c"ValkeyModule_ReplyWithLongLong",
            )?),
            free_call: std::mem::transmute::<*const c_void, FreeCall>(function(
                c"ValkeyModule_FreeCallReply",
            )?),
            wrong_arity: std::mem::transmute::<*const c_void, WrongArity>(function(
                c"ValkeyModule_WrongArity",
            )?),
        };
        let api = API.get_or_init(|| api);
        make(api, context)
    }
}

/// Makes the commands.
unsafe fn make(api: &Api, context: Handle) -> Option<()> {
    let keyword = Begin {
        keyword: (c"KEYS".as_ptr(), 2),
    };
    let picked = Spec {
        flags: READS,
        begin: KEYWORD,
        begin_at: keyword,
        find: RANGE,
        numbers: [-1, 1, 0],
        ..END
    };
    let one = at(READS, 1, RANGE, [0, 1, 0]);
    let written = at(WRITES, 1, RANGE, [0, 1, 0]);
    let counted = at(READS, 1, KEYNUM, [0, 1, 1]);
    let inside = at(READS, 2, RANGE, [0, 1, 0]);
    // SAFETY: names and flags are texts with an end, and the server copies what it keeps.
    unsafe {
        command(
            api,
            context,
            c"trial.set",
            set,
            c"write deny-oom",
            &[written],
        )?;
        command(api, context, c"trial.count", count, c"readonly", &[counted])?;
        command(api, context, c"trial.pick", pick, c"readonly", &[picked])?;
        command(api, context, c"trial.leak", leak, c"readonly", &[one])?;
        command(api, context, c"trial.info", info, c"readonly", &[])?;
        command(
            api,
            context,
            c"trial.move",
            get,
            c"readonly getkeys-api",
            &[],
        )?;
        let create = |name: &CStr, handler, first| {
            let flags = c"readonly".as_ptr();
            (api.create)(context, name.as_ptr(), handler, flags, first, first, first)
        };
        done(create(c"trial.get", Some(get), 1))?;
        done(create(c"trial.box", None, 0))?;
        let parent = (api.find)(context, c"trial.box".as_ptr());
        let (name, flags) = (c"get".as_ptr(), c"readonly".as_ptr());
        done((api.create_subcommand)(
            parent,
            name,
            Some(get_inside),
            flags,
            0,
            0,
            0,
        ))?;
        describe(api, context, c"trial.box|get", &[inside])
    }
}

fn done(result: c_int) -> Option<()> {
    (result == OK).then_some(())
}

unsafe fn command(
    api: &Api,
    context: Handle,
    name: &CStr,
    handler: Handler,
    flags: &CStr,
    specs: &[Spec],
) -> Option<()> {
    // SAFETY: see `make`.
    unsafe {
        let create = api.create;
        done(create(
            context,
            name.as_ptr(),
            Some(handler),
            flags.as_ptr(),
            0,
            0,
            0,
        ))?;
        if specs.is_empty() {
            return Some(());
        }
        describe(api, context, name, specs)
    }
}

unsafe fn describe(api: &Api, context: Handle, name: &CStr, specs: &[Spec]) -> Option<()> {
    // The sizes of a change of history and of an argument as the header has them; there are none here.
    static VERSION: InfoVersion = InfoVersion {
        version: 1,
        history_bytes: 16,
        spec_bytes: size_of::<Spec>(),
        arg_bytes: 72,
    };
    let list = [specs, &[END]].concat();
    let info = Info {
        version: &VERSION,
        texts: [null(); 3],
        history: null(),
        tips: null(),
        arity: -2,
        specs: list.as_ptr(),
        args: null(),
    };
    // SAFETY: see `make`; everything that is pointed to lives until the end of this function.
    unsafe {
        let command = (api.find)(context, name.as_ptr());
        done((api.describe)(command, &raw const info))
    }
}

/// Calls a command of the server with the arguments from `from` on, and replies what it replies.
unsafe fn forward(
    context: Handle,
    name: &CStr,
    argv: *mut Handle,
    argc: c_int,
    from: usize,
) -> c_int {
    let Some(api) = API.get() else { return ERROR };
    let Some(more) = usize::try_from(argc)
        .ok()
        .and_then(|argc| argc.checked_sub(from))
    else {
        // SAFETY: the context is the server's.
        return unsafe { (api.wrong_arity)(context) };
    };
    // SAFETY: there are `more` arguments from there on; `v` takes an array of them and their number.
    unsafe {
        let reply = (api.call)(context, name.as_ptr(), c"v".as_ptr(), argv.add(from), more);
        if reply.is_null() {
            return (api.wrong_arity)(context);
        }
        (api.reply_call)(context, reply);
        (api.free_call)(reply);
    }
    OK
}

unsafe extern "C" fn set(context: Handle, argv: *mut Handle, argc: c_int) -> c_int {
    // SAFETY: the server's own arguments are passed on.
    unsafe { forward(context, c"SET", argv, argc, 1) }
}

unsafe extern "C" fn get(context: Handle, argv: *mut Handle, argc: c_int) -> c_int {
    // SAFETY: as above.
    unsafe { forward(context, c"GET", argv, argc, 1) }
}

unsafe extern "C" fn get_inside(context: Handle, argv: *mut Handle, argc: c_int) -> c_int {
    // SAFETY: as above.
    unsafe { forward(context, c"GET", argv, argc, 2) }
}

unsafe extern "C" fn count(context: Handle, argv: *mut Handle, argc: c_int) -> c_int {
    // SAFETY: as above.
    unsafe { forward(context, c"MGET", argv, argc, 2) }
}

/// `trial.pick title word KEYS key ...`
unsafe extern "C" fn pick(context: Handle, argv: *mut Handle, argc: c_int) -> c_int {
    // SAFETY: as above.
    unsafe { forward(context, c"MGET", argv, argc, 4) }
}

unsafe extern "C" fn leak(context: Handle, argv: *mut Handle, argc: c_int) -> c_int {
    let Some(api) = API.get() else { return ERROR };
    if argc < 2 {
        // SAFETY: the context is the server's.
        return unsafe { (api.wrong_arity)(context) };
    }
    // SAFETY: there is a second argument.
    unsafe { (api.reply_string)(context, *argv.add(1)) }
}

unsafe extern "C" fn info(context: Handle, _: *mut Handle, _: c_int) -> c_int {
    let Some(api) = API.get() else { return ERROR };
    // SAFETY: the context is the server's.
    unsafe { (api.reply_number)(context, 1) }
}
