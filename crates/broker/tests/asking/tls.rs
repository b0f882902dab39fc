//! Certificates: only who has the right one is spoken to.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use freehold_broker::{BrokerError, Upstream, UpstreamKind};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::world::{World, all, ok, run};

/// Both are for `localhost` and 127.0.0.1, each signed by itself.
fn file(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../server/tests/http/tls").join(name)
}

/// A server of HTTPS with the first certificate, and how often it was asked something.
fn server() -> (SocketAddr, Arc<AtomicUsize>) {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let chain = vec![CertificateDer::from_pem_file(file("first.crt")).unwrap()];
    let key = PrivateKeyDer::from_pem_file(file("first.key")).unwrap();
    let config =
        ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.unwrap().with_no_client_auth().with_single_cert(chain, key).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (n_asked, config) = (Arc::new(AtomicUsize::new(0)), Arc::new(config));
    let count = Arc::clone(&n_asked);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let connection = ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut stream = StreamOwned::new(connection, stream);
            // What is refused never gets so far.
            if stream.read(&mut [0; 4096]).is_ok_and(|n| n > 0) {
                count.fetch_add(1, Ordering::SeqCst);
                let _ = stream.write_all(ok("hello").as_bytes());
                let _ = stream.flush();
            }
        }
    });
    (address, n_asked)
}

fn upstream(host: &str, port: u16, authorities: &str) -> Upstream {
    let urls = vec![format!("https://{host}:{port}")];
    let mut upstream = Upstream::new("one", UpstreamKind::OpenAi, urls);
    (upstream.retries, upstream.ca_file) = (0, Some(file(authorities)));
    upstream
}

#[test]
fn the_right_certificate_is_spoken_to_and_no_other() {
    run(async {
        let (address, n_asked) = server();
        let world = World::new(upstream("127.0.0.1", address.port(), "second.crt"));
        let error = world.send().await.unwrap_err();
        assert!(error.to_string().contains("TLS: invalid peer certificate"), "{error}");
        assert!(matches!(error, BrokerError::Unreachable { is_sent: false, .. }), "{error:?}");
        // Another name for the same address.
        let world = World::new(upstream("127.0.0.2", address.port(), "first.crt"));
        assert!(world.send().await.is_err());
        assert_eq!(n_asked.load(Ordering::SeqCst), 0);
        let world = World::new(upstream("127.0.0.1", address.port(), "first.crt"));
        let mut incoming = world.send().await.unwrap();
        assert_eq!(all(&mut incoming.body).await.unwrap(), b"hello");
        assert_eq!(n_asked.load(Ordering::SeqCst), 1);
    });
}

#[test]
fn one_that_speaks_no_tls_is_told() {
    run(async {
        let plain = crate::world::Server::saying(ok("hello"));
        let world = World::new(upstream("127.0.0.1", plain.address.port(), "first.crt"));
        let error = world.send().await.unwrap_err();
        assert!(error.nothing_left(), "{error:?}");
    });
}
