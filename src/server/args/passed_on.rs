//! Flags of upstream's API server, as k3s passes them on: `--kube-apiserver-arg NAME=VALUE`.
//!
//! Those that mean the same here are put where our own flags are; all others are refused by name, so that
//! nobody believes in a setting that nothing reads.

use agent::Problem;

use super::ServerArgs;

impl ServerArgs {
    /// Takes over what is passed on to the API server.
    pub(crate) fn take_apiserver_args(&mut self) -> Result<(), Problem> {
        for argument in std::mem::take(&mut self.kube_apiserver_arg) {
            let (name, value) = argument.split_once('=').unwrap_or((&argument, "true"));
            self.take_apiserver_arg(name.trim_start_matches("--"), value)?;
        }
        Ok(())
    }

    fn take_apiserver_arg(&mut self, name: &str, value: &str) -> Result<(), Problem> {
        let words = || value.split(',').map(str::to_string);
        match name {
            "enable-admission-plugins" => self.enable_admission_plugins.extend(words()),
            "disable-admission-plugins" => self.disable_admission_plugins.extend(words()),
            "admission-control-config-file" => self.admission_control_config_file = Some(value.into()),
            "runtime-config" => self.runtime_config.extend(words()),
            "feature-gates" => self.feature_gates.extend(words()),
            "anonymous-auth" => self.anonymous_auth = read(name, value)?,
            "service-account-extend-token-expiration" => {
                self.service_account_extend_token_expiration = read(name, value)?;
            }
            "max-requests-inflight" => self.max_requests_inflight = read(name, value)?,
            "max-mutating-requests-inflight" => self.max_mutating_requests_inflight = read(name, value)?,
            _ => {
                let what = format!("use --kube-apiserver-arg {name}");
                return Err(Problem::new(what, "this API server has no such setting", "leave it out"));
            }
        }
        Ok(())
    }
}

fn read<T: std::str::FromStr>(name: &str, value: &str) -> Result<T, Problem> {
    value.parse().map_err(|_| {
        let what = format!("use --kube-apiserver-arg {name}={value}");
        Problem::new(what, format!("{value:?} is no value of it"), "correct the flag")
    })
}
