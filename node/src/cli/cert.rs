//! `messenger cert`: a small authority for those who have none.
//!
//! Owns: its arguments, and the files that it makes.
//! Must not know: what is in a certificate.
//! Invariants: private keys are readable by their owner only; an authority is never overwritten; a certificate takes the
//! place of an older one whole.

use super::CliError;
use crate::tls::{Authority, Issued, NodeNames, Validity};
use clap::{Args, Subcommand};
use messenger_client::Trust;
use messenger_proto::ids::{ClusterId, NodeId};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

const CA_EXAMPLES: &str = "\
Examples:
  messenger cert ca --dir tls
  messenger cert ca --dir tls --days 730

Keep ca.key off the nodes: they need ca.pem alone.";

const NODE_EXAMPLES: &str = "\
Examples:
  messenger cert node --dir tls --cluster 000102030405060708090a0b0c0d0e0f --node 1 --host 10.0.0.1
  messenger cert node --dir tls --cluster $ID --node 4 --host 10.0.0.4,chat.example.org --days 90

Under [tls.client], [tls.admin] and [tls.peer], cert and key name the two files that this makes, and ca of [tls.peer] the
authority's. Made again for the same node they take the old ones' place; SIGHUP has the node show them.";

/// Whom to believe over https.
#[derive(Debug, Clone, Args)]
pub struct TrustArgs {
    /// Over https: believe the authorities in this PEM file instead of the system's
    #[arg(long = "ca", value_name = "FILE", env = "MESSENGER_CA")]
    ca: Option<PathBuf>,
}

impl TrustArgs {
    /// Whom.
    ///
    /// # Errors
    /// [`CliError::Usage`] when the file holds no authorities.
    pub fn trust(&self) -> Result<Trust, CliError> {
        let Some(path) = &self.ca else { return Ok(Trust::default()) };
        let unusable = |why: String| CliError::Usage(format!("{}: {why}", path.display()));
        let pem = std::fs::read(path).map_err(|error| unusable(error.to_string()))?;
        Trust::only(&pem).map_err(|error| unusable(error.to_string()))
    }
}

/// Make certificates for nodes, by an authority of one's own
#[derive(Debug, Args)]
pub struct CertArgs {
    #[command(subcommand)]
    command: CertCommand,
}

#[derive(Debug, Subcommand)]
enum CertCommand {
    /// Make the authority: ca.pem and ca.key
    #[command(after_help = CA_EXAMPLES)]
    Ca(CaArgs),
    /// Make a node's certificate: node-N.pem and node-N.key
    #[command(after_help = NODE_EXAMPLES)]
    Node(NodeArgs),
}

#[derive(Debug, Args)]
struct CaArgs {
    /// Where to keep it
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// What it calls itself
    #[arg(long, default_value = "Messenger")]
    name: String,
    /// For how many days it is good
    #[arg(long, default_value_t = 3_650, value_parser = clap::value_parser!(u32).range(1..=36_500))]
    days: u32,
}

#[derive(Debug, Args)]
struct NodeArgs {
    /// Where the authority is kept, and the certificate goes
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// The cluster's id: 32 hexadecimal digits
    #[arg(long, value_name = "ID")]
    cluster: ClusterId,
    /// The node's id
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    node: u64,
    /// Addresses and names by which clients and operators reach the node
    #[arg(long = "host", value_name = "HOST", value_delimiter = ',')]
    hosts: Vec<String>,
    /// For how many days it is good
    #[arg(long, default_value_t = 365, value_parser = clap::value_parser!(u32).range(1..=36_500))]
    days: u32,
}

/// Runs the command.
///
/// # Errors
/// [`CliError`] when files can't be read or written.
pub fn run(args: &CertArgs) -> Result<(), CliError> {
    let made = match &args.command {
        CertCommand::Ca(args) => authority(args)?,
        CertCommand::Node(args) => node(args)?,
    };
    for path in made {
        println!("{}", path.display());
    }
    Ok(())
}

fn failed(path: &Path, error: impl std::fmt::Display) -> CliError {
    CliError::Failed(format!("{}: {error}", path.display()))
}

fn authority(args: &CaArgs) -> Result<[PathBuf; 2], CliError> {
    std::fs::create_dir_all(&args.dir).map_err(|error| failed(&args.dir, error))?;
    let paths = [args.dir.join("ca.pem"), args.dir.join("ca.key")];
    if let Some(there) = paths.iter().find(|path| path.exists()) {
        return Err(failed(there, "there is an authority already: what it vouched for would count for nothing"));
    }
    let issued = Authority::create(&args.name, Validity { days: args.days }).map_err(|e| failed(&args.dir, e))?;
    write(&paths, &issued)?;
    Ok(paths)
}

fn node(args: &NodeArgs) -> Result<[PathBuf; 2], CliError> {
    let read = |name: &str| {
        let path = args.dir.join(name);
        std::fs::read_to_string(&path)
            .map_err(|error| failed(&path, format!("{error}: make it with messenger cert ca")))
    };
    let authority = Authority::from_pem(&read("ca.pem")?, &read("ca.key")?).map_err(|e| failed(&args.dir, e))?;
    let names = NodeNames { cluster: args.cluster, node: NodeId(args.node), hosts: args.hosts.clone() };
    let issued = authority.issue(&names, Validity { days: args.days });
    let issued = issued.map_err(|error| CliError::Usage(format!("--host: {error}")))?;
    let paths = ["pem", "key"].map(|end| args.dir.join(format!("node-{}.{end}", args.node)));
    write(&paths, &issued)?;
    Ok(paths)
}

fn write([certificate, key]: &[PathBuf; 2], issued: &Issued) -> Result<(), CliError> {
    put(key, &issued.key, 0o600)?;
    put(certificate, &issued.certificate, 0o644)
}

/// Puts a file in its place whole, whatever was there.
fn put(path: &Path, text: &str, mode: u32) -> Result<(), CliError> {
    let beside = path.with_extension("new");
    let write = || {
        let _ = std::fs::remove_file(&beside);
        let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&beside)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&beside, path)
    };
    write().map_err(|error| failed(path, error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::CertifiedFiles;
    use crate::tls::Fresh;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn an_authority_is_made_once_and_certificates_as_often_as_wanted() {
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path().join("tls");
        let node_args = NodeArgs {
            dir: at.clone(),
            cluster: ClusterId([1; 16]),
            node: 2,
            hosts: vec!["127.0.0.1".into(), "localhost".into()],
            days: 1,
        };
        assert!(node(&node_args).unwrap_err().to_string().contains("messenger cert ca"));
        let ca = CaArgs { dir: at.clone(), name: "test".into(), days: 2 };
        authority(&ca).unwrap();
        assert!(authority(&ca).unwrap_err().to_string().contains("already"));
        for _ in 0..2 {
            let [cert, key] = node(&node_args).unwrap();
            for (path, mode) in [(&cert, 0o644), (&key, 0o600), (&at.join("ca.key"), 0o600)] {
                assert_eq!(std::fs::metadata(path).unwrap().permissions().mode() & 0o777, mode, "{}", path.display());
            }
            assert!(Fresh::read(&CertifiedFiles { cert, key }).is_ok());
        }
        assert_eq!(std::fs::read_dir(&at).unwrap().count(), 4, "nothing is left beside them");
    }
}
