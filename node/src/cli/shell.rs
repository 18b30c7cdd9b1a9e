//! `messenger completions` and `messenger man`.
//!
//! Owns: what shells complete and what manuals say, made from the commands themselves.
//! Must not know: any command.

use super::exit::CliError;
use clap::{Args, Command};
use clap_complete::Shell;
use clap_mangen::Man;
use std::io::Write;
use std::path::{Path, PathBuf};

/// Print what a shell needs to complete commands and flags
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  messenger completions bash > /etc/bash_completion.d/messenger\n  messenger completions zsh > ~/.zfunc/_messenger\n  messenger completions fish > ~/.config/fish/completions/messenger.fish"
)]
pub struct CompletionsArgs {
    /// Which shell
    #[arg(value_enum)]
    shell: Shell,
}

/// Write manual pages, one for each command
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  messenger man --dir /usr/local/share/man/man1\n  messenger man --dir man && man -l man/messenger-cluster-status.1"
)]
pub struct ManArgs {
    /// Where to; made if it is not there
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
}

/// Prints a script for a shell.
///
/// # Errors
/// [`CliError::Failed`] when nobody takes it.
pub fn completions(args: &CompletionsArgs, mut command: Command) -> Result<(), CliError> {
    let name = command.get_name().to_owned();
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, name, &mut script);
    Ok(std::io::stdout().write_all(&script)?)
}

/// Writes a page for each command.
///
/// # Errors
/// [`CliError::Failed`] when a file can't be written.
pub fn man(args: &ManArgs, command: Command) -> Result<(), CliError> {
    let failed = |error: std::io::Error| CliError::Failed(format!("{}: {error}", args.dir.display()));
    std::fs::create_dir_all(&args.dir).map_err(failed)?;
    let mut command = command.disable_help_subcommand(true);
    command.build();
    write_pages(&args.dir, &command).map_err(failed)
}

fn write_pages(directory: &Path, command: &Command) -> std::io::Result<()> {
    let page = Man::new(command.clone()).manual("Messenger");
    let mut text = Vec::new();
    page.render(&mut text)?;
    std::fs::write(directory.join(page.get_filename()), text)?;
    command.get_subcommands().try_for_each(|below| write_pages(directory, below))
}
