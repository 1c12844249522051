//! Whom we trust: the system's authorities, those of `certs.d/<host>`, or (for insecure registries) anybody.

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use std::path::{Path, PathBuf};
use std::sync::Arc;

type Pair = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

/// What `certs.d/<host>` holds.
#[derive(Debug, Default)]
struct HostCertificates {
    authorities: Vec<CertificateDer<'static>>,
    client: Option<Pair>,
}

/// A configuration that verifies, with what `folder` adds. Reads files: call it off the async threads.
///
/// # Errors
/// When a file of `folder` can't be used; the text names it.
pub(crate) fn verifying(folder: Option<&Path>) -> Result<ClientConfig, String> {
    let mut roots = RootCertStore::empty();
    // Certificates that can't be read are skipped, as by every TLS library; without any, verification fails and says so.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let extra = folder.map(read_folder).transpose()?.unwrap_or_default();
    for authority in extra.authorities {
        roots.add(authority).map_err(|e| format!("certificate authority for this registry: {e}"))?;
    }
    let builder = builder()?.with_root_certificates(roots);
    match extra.client {
        Some((chain, key)) => builder.with_client_auth_cert(chain, key).map_err(|e| format!("client certificate: {e}")),
        None => Ok(builder.with_no_client_auth()),
    }
}

/// A configuration that takes any certificate.
pub(crate) fn unverified() -> Result<ClientConfig, String> {
    let verifier = Arc::new(Anybody(ring::default_provider()));
    Ok(builder()?.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth())
}

fn builder() -> Result<rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier>, String> {
    ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())
}

/// `*.crt` are authorities; each `*.cert` is a client certificate and has its `*.key`.
fn read_folder(folder: &Path) -> Result<HostCertificates, String> {
    let mut out = HostCertificates::default();
    let Ok(entries) = std::fs::read_dir(folder) else { return Ok(out) };
    let mut files: Vec<PathBuf> = entries.filter_map(|e| e.ok().map(|e| e.path())).collect();
    files.sort();
    for file in &files {
        let named = |e: &dyn std::fmt::Display| format!("{}: {e}", file.display());
        match file.extension().and_then(|e| e.to_str()) {
            Some("crt") => out.authorities.extend(read_certificates(file)?),
            Some("cert") => {
                let key = file.with_extension("key");
                if !files.contains(&key) {
                    return Err(format!(
                        "missing key {} for client certificate {}. CA certificates must use the extension .crt",
                        key.display(),
                        file.display()
                    ));
                }
                let key = PrivateKeyDer::from_pem_file(&key).map_err(|e| format!("{}: {e}", key.display()))?;
                let chain = read_certificates(file)?;
                if chain.is_empty() {
                    return Err(named(&"no certificate"));
                }
                out.client.get_or_insert((chain, key));
            }
            Some("key") if !files.contains(&file.with_extension("cert")) => {
                return Err(format!(
                    "missing client certificate {} for key {}",
                    file.with_extension("cert").display(),
                    file.display()
                ));
            }
            _ => {}
        }
    }
    Ok(out)
}

fn read_certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    CertificateDer::pem_file_iter(file)
        .and_then(Iterator::collect)
        .map_err(|e: rustls::pki_types::pem::Error| format!("{}: {e}", file.display()))
}

/// Accepts every certificate, but still proves that the peer has its key.
#[derive(Debug)]
struct Anybody(CryptoProvider);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// A TLS failure as Go says it.
pub(crate) fn explain(error: &rustls::Error) -> String {
    use rustls::CertificateError as C;
    match error {
        rustls::Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType) => {
            "http: server gave HTTP response to HTTPS client".to_owned()
        }
        rustls::Error::InvalidCertificate(e) => {
            let why = match e {
                C::UnknownIssuer => "certificate signed by unknown authority".to_owned(),
                C::Expired | C::ExpiredContext { .. } => "certificate has expired".to_owned(),
                C::NotValidYet | C::NotValidYetContext { .. } => "certificate is not yet valid".to_owned(),
                C::NotValidForName | C::NotValidForNameContext { .. } => {
                    "certificate is not valid for this host name".to_owned()
                }
                other => format!("{other:?}"),
            };
            format!("tls: failed to verify certificate: x509: {why}")
        }
        other => format!("tls: {other}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::{ClientConnection, ServerConfig, ServerConnection};
    use std::fs;
    use std::process::{Command, Stdio};

    /// A folder with an authority (`ca.crt`), what it signed for `reg.test` (`reg.pem`), and the keys of both.
    fn make_authority() -> PathBuf {
        let folder =
            std::env::temp_dir().join(format!("naru-tls-{}-{:?}", std::process::id(), std::thread::current().id()));
        fs::create_dir_all(&folder).unwrap();
        let openssl = |args: &str| {
            let done =
                Command::new("openssl").args(args.split(' ')).current_dir(&folder).stderr(Stdio::null()).status();
            assert!(done.unwrap().success(), "openssl {args}");
        };
        let ec = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2";
        openssl(&format!("req -x509 {ec} -subj /CN=ca -keyout ca.pem -out ca.crt"));
        openssl(&format!(
            "req -x509 {ec} -subj /CN=reg -addext subjectAltName=DNS:reg.test -addext basicConstraints=critical,CA:FALSE \
             -CA ca.crt -CAkey ca.pem -keyout reg.key.pem -out reg.pem"
        ));
        folder
    }

    /// Shakes hands in memory; the client's error.
    fn handshake(client: ClientConfig, folder: &Path, name: &'static str) -> Result<(), rustls::Error> {
        let chain = read_certificates(&folder.join("reg.pem")).unwrap();
        let key = PrivateKeyDer::from_pem_file(folder.join("reg.key.pem")).unwrap();
        let server = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        let mut server = ServerConnection::new(Arc::new(server)).unwrap();
        let mut client = ClientConnection::new(Arc::new(client), ServerName::try_from(name).unwrap()).unwrap();
        while client.is_handshaking() {
            let mut wire = Vec::new();
            client.write_tls(&mut wire).unwrap();
            server.read_tls(&mut wire.as_slice()).unwrap();
            server.process_new_packets().unwrap();
            let mut wire = Vec::new();
            while server.wants_write() {
                server.write_tls(&mut wire).unwrap();
            }
            let mut wire = wire.as_slice();
            while !wire.is_empty() {
                client.read_tls(&mut wire).unwrap();
                client.process_new_packets()?;
            }
        }
        Ok(())
    }

    #[test]
    fn who_is_trusted() {
        let folder = make_authority();
        handshake(verifying(Some(&folder)).unwrap(), &folder, "reg.test").unwrap();
        handshake(unverified().unwrap(), &folder, "other.test").unwrap();
        let unknown = handshake(verifying(None).unwrap(), &folder, "reg.test").unwrap_err();
        assert_eq!(
            explain(&unknown),
            "tls: failed to verify certificate: x509: certificate signed by unknown authority"
        );
        let misnamed = handshake(verifying(Some(&folder)).unwrap(), &folder, "other.test").unwrap_err();
        assert!(explain(&misnamed).ends_with("x509: certificate is not valid for this host name"), "{misnamed}");
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn client_certificates_come_in_pairs() {
        let folder = make_authority();
        fs::copy(folder.join("reg.pem"), folder.join("me.cert")).unwrap();
        let e = verifying(Some(&folder)).unwrap_err();
        assert!(e.contains("missing key") && e.contains("CA certificates must use the extension .crt"), "{e}");
        fs::copy(folder.join("reg.key.pem"), folder.join("me.key")).unwrap();
        assert!(verifying(Some(&folder)).unwrap().client_auth_cert_resolver.has_certs());
        fs::remove_file(folder.join("me.cert")).unwrap();
        assert!(verifying(Some(&folder)).unwrap_err().contains("missing client certificate"));
        fs::write(folder.join("bad.crt"), "-----BEGIN CERTIFICATE-----\n!!\n-----END CERTIFICATE-----\n").unwrap();
        fs::remove_file(folder.join("me.key")).unwrap();
        assert!(verifying(Some(&folder)).unwrap_err().contains("bad.crt"));
        fs::remove_dir_all(folder).unwrap();
    }
}
