//! `/stats/summary`: the JSON of upstream's `stats/v1alpha1`.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Map, Value, json};

use super::interfaces::Interface;
use super::{ContainerMeasured, Cpu, Measured, Memory, NodeMeasured, PodMeasured};
use crate::files::tree::TreeUsage;
use crate::node::machine::Disk;
use crate::spec::PodExt;

/// The summary of a measurement; processor time and memory alone, if that is all that is wanted.
pub(crate) fn of(measured: &Measured, node_name: &str, started: Timestamp, is_brief: bool) -> Value {
    let at = measured.at;
    let mut node = json!({
        "nodeName": node_name,
        "startTime": Time(started),
        "cpu": cpu(measured.node.cpu, at),
        "memory": node_memory(&measured.node, at),
    });
    if let Some((all_cpu, all_memory)) = measured.node.all_pods {
        let pods = json!({
            "name": "pods", "startTime": Time(started),
            "cpu": cpu(all_cpu, at), "memory": memory(all_memory, at),
        });
        node["systemContainers"] = json!([pods]);
    }
    if !is_brief {
        details_of_node(&mut node, &measured.node, at);
    }
    let pods: Vec<Value> = measured.pods.iter().map(|one| pod(one, measured, is_brief)).collect();
    json!({"node": node, "pods": pods})
}

fn cpu(cpu: Cpu, at: Timestamp) -> Value {
    let mut value = json!({"time": Time(at), "usageCoreNanoSeconds": cpu.used});
    if let Some(rate) = cpu.rate {
        value["usageNanoCores"] = json!(rate);
    }
    value
}

fn memory(memory: Memory, at: Timestamp) -> Value {
    let mut value = json!({
        "time": Time(at),
        "usageBytes": memory.used,
        "workingSetBytes": memory.working_set,
        "rssBytes": memory.rss,
        "pageFaults": memory.page_faults,
        "majorPageFaults": memory.major_page_faults,
    });
    if let Some(limit) = memory.limit {
        value["availableBytes"] = json!(limit.saturating_sub(memory.working_set));
    }
    value
}

fn node_memory(node: &NodeMeasured, at: Timestamp) -> Value {
    let mut value = memory(node.memory, at);
    value["availableBytes"] = json!(node.available_memory);
    value
}

fn file_system(disk: Disk, at: Timestamp) -> Map<String, Value> {
    let value = json!({
        "time": Time(at),
        "availableBytes": disk.available,
        "capacityBytes": disk.total,
        "usedBytes": disk.usable.saturating_sub(disk.available),
        "inodesFree": disk.inodes_free,
        "inodes": disk.inodes,
        "inodesUsed": disk.inodes.saturating_sub(disk.inodes_free),
    });
    if let Value::Object(map) = value { map } else { Map::new() }
}

/// What a part of the node's file system takes, with what is left there.
fn part(disk: Option<Disk>, used: TreeUsage, at: Timestamp) -> Value {
    let mut map = disk.map(|disk| file_system(disk, at)).unwrap_or_default();
    map.insert("time".to_string(), json!(Time(at)));
    map.insert("usedBytes".to_string(), json!(used.bytes));
    map.insert("inodesUsed".to_string(), json!(used.inodes));
    Value::Object(map)
}

fn network(interfaces: &[Interface], default: Option<&str>, at: Timestamp) -> Value {
    let one = |interface: &Interface| {
        json!({
            "name": interface.name,
            "rxBytes": interface.received.bytes, "rxErrors": interface.received.errors,
            "txBytes": interface.sent.bytes, "txErrors": interface.sent.errors,
        })
    };
    let main = interfaces.iter().find(|one| default.is_none_or(|name| one.name == name));
    let mut value = main.map(one).unwrap_or_else(|| json!({"name": ""}));
    value["time"] = json!(Time(at));
    value["interfaces"] = Value::Array(interfaces.iter().map(one).collect());
    value
}

fn details_of_node(value: &mut Value, node: &NodeMeasured, at: Timestamp) {
    value["network"] = network(&node.interfaces, node.default_interface.as_deref(), at);
    if let Some(disk) = node.disk {
        let fs = file_system(disk, at);
        // Images and what containers write are on the same file system.
        value["runtime"] = json!({"imageFs": fs, "containerFs": fs});
        value["fs"] = Value::Object(fs);
    }
    if let Some((running, most)) = node.processes {
        value["rlimit"] = json!({"time": Time(at), "maxpid": most, "curproc": running});
    }
}

fn pod(measured: &PodMeasured, all: &Measured, is_brief: bool) -> Value {
    let (pod, at, disk) = (&measured.pod, all.at, all.node.disk);
    let started = pod.status.as_ref().and_then(|status| status.start_time.clone());
    let containers: Vec<Value> =
        measured.containers.iter().map(|one| container(one, at, disk, is_brief)).collect();
    let mut value = json!({
        "podRef": {"name": pod.name(), "namespace": pod.namespace(), "uid": pod.uid()},
        "startTime": started.unwrap_or(Time(at)),
        "containers": containers,
        "cpu": cpu(measured.cpu, at),
        "memory": memory(measured.memory, at),
    });
    if is_brief {
        return value;
    }
    if !measured.interfaces.is_empty() {
        value["network"] = network(&measured.interfaces, Some("eth0"), at);
    }
    let volumes: Vec<Value> = measured
        .storage
        .volumes
        .iter()
        .map(|(name, used)| {
            let mut value = part(disk, *used, at);
            value["name"] = json!(name);
            value
        })
        .collect();
    if !volumes.is_empty() {
        value["volume"] = Value::Array(volumes);
    }
    value["ephemeral-storage"] = part(disk, measured.disk(), at);
    value["process_stats"] = json!({"process_count": measured.processes});
    value
}

fn container(one: &ContainerMeasured, at: Timestamp, disk: Option<Disk>, is_brief: bool) -> Value {
    let mut value = json!({
        "name": one.name,
        "startTime": Time(one.started.unwrap_or(at)),
        "cpu": cpu(one.cpu, at),
        "memory": memory(one.memory, at),
    });
    if !is_brief {
        value["rootfs"] = part(disk, one.layer, at);
        value["logs"] = part(disk, one.logs, at);
    }
    value
}
