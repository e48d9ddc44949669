//! What kubectl can be told to do: one file a verb.
//!
//! What several verbs need (finding objects, changing them, waiting for answers) is beside this folder.

pub(crate) mod alpha;
pub(crate) mod annotate;
pub(crate) mod api_resources;
pub(crate) mod apply;
pub(crate) mod attach;
pub(crate) mod auth;
pub(crate) mod autoscale;
pub(crate) mod certificate;
pub(crate) mod cluster_info;
pub(crate) mod completion;
pub(crate) mod config;
pub(crate) mod cordon;
pub(crate) mod cp;
pub(crate) mod create;
pub(crate) mod debug;
pub(crate) mod delete;
pub(crate) mod describe;
pub(crate) mod diff;
pub(crate) mod drain;
pub(crate) mod edit;
pub(crate) mod events;
pub(crate) mod exec;
pub(crate) mod explain;
pub(crate) mod expose;
pub(crate) mod get;
pub(crate) mod kuberc;
pub(crate) mod kustomize;
pub(crate) mod label;
pub(crate) mod logs;
pub(crate) mod patch;
pub(crate) mod plugin;
pub(crate) mod port_forward;
pub(crate) mod proxy;
pub(crate) mod replace;
pub(crate) mod rollout;
pub(crate) mod run_pod;
pub(crate) mod scale;
pub(crate) mod set;
pub(crate) mod taint;
pub(crate) mod top;
pub(crate) mod version;
pub(crate) mod wait;

use clap::Subcommand;

#[derive(Subcommand)]
pub(crate) enum Verb {
    Create(Box<create::CreateArgs>),
    Expose(expose::ExposeArgs),
    Run(run_pod::RunArgs),
    Set(set::SetArgs),
    Explain(explain::ExplainArgs),
    Get(get::GetArgs),
    Edit(edit::EditArgs),
    Delete(delete::DeleteArgs),
    Rollout(Box<rollout::RolloutArgs>),
    Scale(scale::ScaleArgs),
    Certificate(certificate::CertificateArgs),
    #[command(name = "cluster-info")]
    ClusterInfo(cluster_info::ClusterInfoArgs),
    Cordon(cordon::CordonArgs),
    Uncordon(cordon::CordonArgs),
    Drain(drain::DrainArgs),
    Taint(taint::TaintArgs),
    Describe(describe::DescribeArgs),
    Logs(logs::LogsArgs),
    Proxy(proxy::ProxyArgs),
    Auth(auth::AuthArgs),
    Events(events::EventsArgs),
    Apply(apply::ApplyArgs),
    Patch(patch::PatchArgs),
    Replace(replace::ReplaceArgs),
    Wait(wait::WaitArgs),
    Label(label::LabelArgs),
    Annotate(annotate::AnnotateArgs),
    Completion(completion::CompletionArgs),
    #[command(name = "api-resources")]
    ApiResources(api_resources::ApiResourcesArgs),
    #[command(name = "api-versions")]
    ApiVersions(api_resources::ApiVersionsArgs),
    Config(config::ConfigArgs),
    Version(version::VersionArgs),
    Exec(exec::ExecArgs),
    Attach(attach::AttachArgs),
    #[command(name = "port-forward")]
    PortForward(port_forward::PortForwardArgs),
    Cp(cp::CpArgs),
    Top(top::TopArgs),
    Debug(Box<debug::DebugArgs>),
    Diff(diff::DiffArgs),
    Autoscale(autoscale::AutoscaleArgs),
    Plugin(plugin::PluginArgs),
    Kustomize(kustomize::KustomizeArgs),
    Kuberc(kuberc::KubercArgs),
    Alpha(alpha::AlphaArgs),
    Options(alpha::OptionsArgs),
}
