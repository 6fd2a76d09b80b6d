//! An upstream that answers wrongly: whatever cannot be attributed ends that connection and the sessions
//! that were owed a reply on it, and reaches nobody.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use flect_agent::environment::{App, Directory, Environment, UpstreamAddress, Whereabouts};
use flect_agent::integrity::Integrity;
use flect_agent::worker::{self, Accepted, Message};

use super::ended;
use super::node::{Node, app};
use crate::pair::shown;
use crate::wire::Wire;

/// Longer than the agent needs to close a connection.
const SILENT: Duration = Duration::from_secs(1);

/// How long the agent's login is left unanswered.
const UNANSWERED: Duration = Duration::from_millis(100);

/// What the server says to one request; nothing of it but a null may reach the client.
const TALKS: [(&str, &str, &str); 15] = [
    ("not RESP", "GET k", "hello\r\n"),
    ("an unknown type", "GET k", "?1\r\n"),
    ("a length that is none", "GET k", "$x\r\n\r\n"),
    ("a negative count", "GET k", "*-7\r\n"),
    (
        "too long a header",
        "GET k",
        "$0000000000000000000000000000000000000000003\r\nabc\r\n",
    ),
    ("one reply too many", "GET k", "$-1\r\n+SURPLUS\r\n"),
    ("two too many", "GET k", "$-1\r\n:1\r\n:2\r\n"),
    (
        "a key of nobody's",
        "LMPOP 1 k LEFT",
        "*2\r\n$5\r\nother\r\n*1\r\n$6\r\nsecret\r\n",
    ),
    (
        "a key of another's",
        "LMPOP 1 k LEFT",
        "*2\r\n$9\r\n{zzzz9}:k\r\n*1\r\n$6\r\nsecret\r\n",
    ),
    (
        "a shape of another command's",
        "LMPOP 1 k LEFT",
        ":1\r\n$6\r\nsecret\r\n",
    ),
    (
        "a stream that is none",
        "XREAD STREAMS k 0",
        "*1\r\n$6\r\nsecret\r\n",
    ),
    (
        "an unknown push",
        "SUBSCRIBE c",
        "*3\r\n$4\r\nnews\r\n$6\r\nsecret\r\n:1\r\n",
    ),
    ("half a reply", "GET k", "$20\r\nsecr"),
    ("half a header", "GET k", "$2"),
    ("nothing", "GET k", ""),
];

/// Each kind of garbage ends the session that was owed the reply, and a session of the same store that
/// is owed nothing goes on over another connection.
pub fn ends(node: &mut Node) -> Result<()> {
    let store = node.make("garbage")?;
    let app_of = app(&[&store]);
    for (what, request, reply) in TALKS {
        let server = TcpListener::bind("127.0.0.1:0")?;
        let environment = Arc::new(Environment {
            whereabouts: Whereabouts::new(vec![UpstreamAddress::Tcp(server.local_addr()?)]),
            replicas: Default::default(),
            facts: flect_agent::environment::ServerFacts {
                server: "redis".to_owned(),
                version: "7.2.4".to_owned(),
                databases: 16,
                release: flect_agent::commands::Version { major: 8, minor: 0 },
                modules: Vec::new(),
            },
            housekeeper: store.credentials.clone(),
            librarian: store.credentials.clone(),
            integrity: Arc::new(Integrity::new(true, [])),
            directory: Directory::default(),
        });
        let (sender, _requests) = tokio::sync::mpsc::unbounded_channel();
        let mut worker = worker::spawn(0, environment, std::slice::from_ref(&store), sender)?;
        let calm = connect(&worker, &app_of)?;
        let mut wire = connect(&worker, &app_of)?;
        wire.send_raw(format!("{request}\r\n").as_bytes())?;
        let mut upstream = accept(&server)?;
        read_request(&mut upstream)?;
        upstream.write_all(reply.as_bytes())?;
        upstream.shutdown(Shutdown::Write)?;
        let (bytes, closed) = wire.read_until_silent(SILENT)?;
        // Whoever has got its reply is owed nothing by a connection that goes on to babble.
        let served = reply.starts_with("$-1\r\n");
        ensure!(closed != served, "{what}: {closed} after {}", shown(&bytes));
        let text = String::from_utf8_lossy(&bytes);
        ensure!(
            !text.contains("SURPLUS") && !text.contains("secret") && !text.contains("zzzz9"),
            "{what}: {text}"
        );
        let mut rest = Vec::new();
        // The agent has closed its side as well.
        let _ = upstream.read_to_end(&mut rest);
        // Who is owed nothing goes on.
        let mut calm = calm;
        calm.send(&["GET", "k"])?;
        let mut upstream = accept(&server).with_context(|| what.to_owned())?;
        read_request(&mut upstream)?;
        upstream.write_all(b"$4\r\ncalm\r\n")?;
        ensure!(calm.read()?.text() == "calm", "{what}: the other session");
        worker.stop();
        ended(&mut calm)?;
    }
    Ok(())
}

fn connect(worker: &worker::Handle, app: &Arc<App>) -> Result<Wire> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let wire = Wire::connect(listener.local_addr()?)?;
    let (stream, peer) = listener.accept()?;
    stream.set_nonblocking(true)?;
    let accepted = Accepted::new(stream, app.clone(), peer, listener.local_addr()?);
    worker.send(Message::Accept(Box::new(accepted)));
    Ok(wire)
}

/// The agent's next connection, its login answered.
fn accept(server: &TcpListener) -> Result<TcpStream> {
    let (mut stream, _) = server.accept()?;
    // A server that does not know the user would carry out what comes behind as another one.
    stream.set_read_timeout(Some(UNANSWERED))?;
    let mut sent = vec![0; 4096];
    let count = stream.read(&mut sent)?;
    let before = String::from_utf8_lossy(&sent[..count]);
    ensure!(
        before.starts_with("*5\r\n$5\r\nHELLO\r\n") && before.matches('*').count() == 1,
        "before the login was answered: {before}"
    );
    ensure!(
        stream.read(&mut sent).is_err(),
        "more before the login was answered"
    );
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(b"+OK\r\n")?;
    Ok(stream)
}

/// Reads until the request behind the login is there.
fn read_request(stream: &mut TcpStream) -> Result<()> {
    let mut bytes = Vec::new();
    let mut part = [0; 4096];
    while !bytes.contains(&b'*') {
        let count = stream.read(&mut part)?;
        ensure!(count > 0, "the agent closed");
        bytes.extend_from_slice(&part[..count]);
    }
    Ok(())
}
