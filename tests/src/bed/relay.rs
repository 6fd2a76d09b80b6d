//! The operator's way: a plain TCP relay to Valkey, outside the managed cgroup.
//!
//! Valkey's own address is intercepted for every app, so test suites that administer the server
//! from inside an app's cgroup come by here. The relay's connections are made by this process,
//! which no agent manages.

use std::io;
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use anyhow::{Context, Result};

/// A listening relay; connections end with it or with either side.
#[derive(Debug)]
pub struct Relay {
    address: SocketAddr,
    stopped: Arc<AtomicBool>,
}

impl Relay {
    /// Listens on a port of loopback, 0 for a free one, and forwards to `valkey`.
    ///
    /// # Errors
    /// When the port is taken.
    pub fn start(port: u16, valkey: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))
            .with_context(|| format!("listening on the operator's port {port}"))?;
        let address = listener.local_addr()?;
        let stopped = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&stopped);
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                thread::spawn(move || forward(&client, valkey));
            }
        });
        Ok(Self { address, stopped })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Relaxed);
        // Wakes the accepting thread, which then closes the port.
        let _ = TcpStream::connect(self.address);
    }
}

fn forward(client: &TcpStream, valkey: SocketAddr) {
    let both = || -> io::Result<()> {
        let server = TcpStream::connect(valkey)?;
        client.set_nodelay(true)?;
        server.set_nodelay(true)?;
        let (mut from_server, mut to_client) = (server.try_clone()?, client.try_clone()?);
        let back = thread::spawn(move || {
            let copied = io::copy(&mut from_server, &mut to_client);
            let how = if copied.is_ok() {
                Shutdown::Write
            } else {
                Shutdown::Both
            };
            to_client.shutdown(how)
        });
        let copied = io::copy(&mut &*client, &mut &server);
        let how = if copied.is_ok() {
            Shutdown::Write
        } else {
            Shutdown::Both
        };
        // An end that is gone already needs no shutdown.
        let _ = server.shutdown(how);
        let _ = back.join();
        Ok(())
    };
    if both().is_err() {
        let _ = client.shutdown(Shutdown::Both);
    }
}
