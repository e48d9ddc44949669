//! The flags that every command takes.

use std::path::PathBuf;

use clap::Args;

/// Flags that every command takes.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Global {
    /// Path to the kubeconfig file
    #[arg(long, global = true, hide_short_help = true)]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// The kubeconfig context to use
    #[arg(long, global = true, hide_short_help = true)]
    pub(crate) context: Option<String>,
    /// The kubeconfig cluster to use
    #[arg(long, global = true, hide_short_help = true)]
    pub(crate) cluster: Option<String>,
    /// The kubeconfig user to use
    #[arg(long, global = true, hide_short_help = true)]
    pub(crate) user: Option<String>,
    /// The namespace of this request
    #[arg(short = 'n', long, global = true)]
    pub(crate) namespace: Option<String>,
    /// Address and port of the API server
    #[arg(short = 's', long, global = true, hide_short_help = true)]
    pub(crate) server: Option<String>,
    /// Bearer token
    #[arg(long, global = true, hide_short_help = true)]
    pub(crate) token: Option<String>,
    /// File of the certificate authority
    #[arg(long, global = true, hide_short_help = true)]
    pub(crate) certificate_authority: Option<String>,
    /// File of the client certificate
    #[arg(long, global = true, hide_short_help = true)]
    pub(crate) client_certificate: Option<String>,
    /// File of the client key
    #[arg(long, global = true, hide_short_help = true)]
    pub(crate) client_key: Option<String>,
    /// Name to verify the server's certificate for
    #[arg(long, global = true, hide_short_help = true)]
    pub(crate) tls_server_name: Option<String>,
    /// Do not verify the server's certificate
    #[arg(
        long,
        global = true,
        hide_short_help = true,
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true"
    )]
    pub(crate) insecure_skip_tls_verify: Option<bool>,
    /// How long to wait for one answer (0: no limit)
    #[arg(long, global = true, hide_short_help = true, default_value = "0")]
    pub(crate) request_timeout: String,
    /// User to impersonate
    #[arg(long = "as", global = true, hide_short_help = true)]
    pub(crate) impersonate: Option<String>,
    /// Group to impersonate, may be repeated
    #[arg(long = "as-group", global = true, hide_short_help = true)]
    pub(crate) impersonate_groups: Vec<String>,
    /// UID to impersonate
    #[arg(long = "as-uid", global = true, hide_short_help = true)]
    pub(crate) impersonate_uid: Option<String>,
    /// KEY=VALUE of extra information to impersonate, may be repeated
    #[arg(long = "as-user-extra", global = true, hide_short_help = true)]
    pub(crate) impersonate_extra: Vec<String>,
    /// User name for basic authentication
    #[arg(long, global = true, hide_short_help = true)]
    pub(crate) username: Option<String>,
    /// Password for basic authentication
    #[arg(long, global = true, hide_short_help = true)]
    pub(crate) password: Option<String>,
    /// File of preferences: aliases and defaults of flags
    #[arg(long, global = true, hide_short_help = true)]
    pub(crate) kuberc: Option<String>,
    /// Treat warnings of the server as errors
    #[arg(long, global = true, hide_short_help = true)]
    pub(crate) warnings_as_errors: bool,
    /// Log level; 6 and more tell each request
    #[arg(short = 'v', long = "v", global = true, hide_short_help = true, default_value_t = 0)]
    pub(crate) verbosity: i32,
    /// Accepted for compatibility; nothing is cached
    #[arg(long, global = true, hide = true)]
    pub(crate) cache_dir: Option<String>,
    /// Accepted for compatibility
    #[arg(long, global = true, hide = true)]
    pub(crate) match_server_version: bool,
    /// Ask the server not to compress its answers
    #[arg(long, global = true, hide_short_help = true)]
    pub(crate) disable_compression: bool,
    /// Accepted for compatibility; nothing is buffered
    #[arg(long, global = true, hide = true)]
    log_flush_frequency: Option<String>,
    /// Accepted for compatibility
    #[arg(long, global = true, hide = true)]
    vmodule: Option<String>,
    /// Accepted for compatibility; there are no profiles
    #[arg(long, global = true, hide = true)]
    profile: Option<String>,
    /// Accepted for compatibility
    #[arg(long, global = true, hide = true)]
    profile_output: Option<String>,
    /// Which exec plugins may run; from the preferences.
    #[arg(skip)]
    pub(crate) plugin_policy: client::kubeconfig::PluginPolicy,
}
