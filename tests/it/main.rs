//! The integration tests, one module per area. They run the real binary, each cluster in namespaces of its
//! own, two at a time.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod access;
mod address;
mod agent;
mod apply;
mod audit;
mod autoscaling;
mod bad_input;
mod bare_machine;
mod boot;
mod claims;
mod clock;
mod cluster_kinds;
mod control_loops;
mod control_plane;
mod custom_resources;
mod disk_full;
mod encryption;
mod etcd;
mod extension;
mod images;
mod ingress;
mod install;
mod kubectl_compared;
mod kubectl_user;
mod kubectl_versions;
mod kubelet;
mod node;
mod objects;
mod policy;
mod proxies;
mod restart;
mod s3;
mod servers;
mod services;
mod simulate;
mod snapshot;
mod status;
mod streams;
mod systemd_machine;
mod trust;
mod uninstall;
mod volumes;
mod walkthrough;
mod workloads;
