//! The conversation with the environment's Valkey, for commands that work on it directly.

use flect_agent::admin::Admin;
use flect_agent::config::environments::Folders;
use flect_agent::store::Slug;

use crate::Global;

/// The operator's connection to the chosen environment.
pub struct Operator {
    /// What people call the environment.
    pub environment: String,
    /// How it is reached.
    pub valkey: flect_agent::config::Valkey,
    /// The connection.
    pub admin: Admin,
}

/// Runs a command that talks to Valkey.
pub fn block_on<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(work)
}

impl Operator {
    /// Connects to the environment that the command line, the variables or the user chose.
    pub async fn connect(global: &Global) -> anyhow::Result<Self> {
        Self::connect_to(global.env.as_deref()).await
    }

    /// Connects to the environment of this name, or the chosen one.
    pub async fn connect_to(name: Option<&str>) -> anyhow::Result<Self> {
        let (environment, known) = Folders::from_env().choose(name)?;
        let admin = Admin::connect(&known.valkey).await?;
        Ok(Self {
            environment,
            valkey: known.valkey,
            admin,
        })
    }
}

/// A store's name, as clap wants it read.
pub fn slug(text: &str) -> Result<Slug, String> {
    Slug::try_from(text.to_owned()).map_err(|error| error.to_string())
}
