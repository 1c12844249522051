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
