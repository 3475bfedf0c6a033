//! `bartender barriers`, as it is run.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

mod common;

use std::process::Output;

use memtype::Arch;
use memtype::barrier::{FENCES, PRACTICES, Project, Role};
use serde_json::Value;

fn run(args: &[&str]) -> Output {
    common::run(&[&["barriers"], args].concat())
}

fn stdout(args: &[&str]) -> String {
    common::stdout(&[&["barriers"], args].concat())
}

#[test]
fn text_fits_and_says_what_matters() {
    for args in [&[] as &[_], &["--arch", "arm64"], &["--role", "wc-flush"], &["--project", "gdrcopy"]] {
        for line in stdout(args).lines() {
            assert!(line.chars().count() <= 100 && !line.ends_with(' '), "{args:?}: {line:?}");
        }
    }
    let text = stdout(&["--arch", "arm64", "--role", "wc-flush"]);
    for word in ["DSB OSHST", "mmio_flush_writes()", "DGH", "hint", "weaker", "where practice and architecture differ"]
    {
        assert!(text.contains(word), "{word} in {text}");
    }
    assert!(!text.contains("sfence") && !text.contains("x86"));
    // The line of a use: what is missing stands behind the relation.
    let line = text.lines().find(|l| l.trim_start().starts_with("gdrcopy")).unwrap();
    assert_eq!(
        line.split_whitespace().collect::<Vec<_>>(),
        ["gdrcopy", "wc_store_fence()", "DMB", "ST", "weaker", "no", "drains"]
    );
    let flush = |arch| {
        let text = stdout(&["--arch", arch, "--role", "wc-flush"]);
        text.lines().find(|l| l.contains("needs:")).unwrap().trim().to_owned()
    };
    assert_eq!(flush("x86"), "needs: SFENCE");
    assert_eq!(flush("riscv"), "needs: no instruction promises it");
}

#[test]
fn csv_has_a_row_for_each_use() {
    let csv = stdout(&["--csv"]);
    let mut lines = csv.lines();
    assert_eq!(lines.next(), Some("arch,role,project,call,instruction,relation,source"));
    let rows: Vec<_> = lines.map(fields).collect();
    assert_eq!(rows.len(), PRACTICES.len());
    for p in PRACTICES {
        let row = [
            p.arch.name(),
            p.role.name(),
            p.project.name(),
            p.call,
            p.instruction,
            p.relation().name(),
            &p.source().to_string(),
        ]
        .map(String::from);
        assert_eq!(rows.iter().filter(|r| **r == row).count(), 1, "{row:?}");
    }
    for spot in [
        "arm64,wc-flush,ucx,ucs_memory_bus_cacheline_wc_flush(),DGH,hint,UCX src/ucs/arch/aarch64/cpu.h",
        "x86,dma-to-device,dpdk,rte_io_wmb(),compiler only,exact,DPDK lib/eal/x86/include/rte_atomic.h",
        "riscv,dma-to-device,dpdk,rte_wmb(),\"fence w,w\",weaker,DPDK drivers/common/mlx5/mlx5_common.h mlx5_doorbell_ring",
    ] {
        assert!(csv.lines().any(|l| l == spot), "{spot}");
    }
}

/// The fields of a line of CSV; a quoted one may have commas.
fn fields(line: &str) -> [String; 7] {
    let mut out = vec![String::new()];
    let mut quoted = false;
    for c in line.chars() {
        match c {
            '"' => quoted = !quoted,
            ',' if !quoted => out.push(String::new()),
            c => out.last_mut().unwrap().push(c),
        }
    }
    out.try_into().unwrap()
}

#[test]
fn filters_pick_rows_of_the_whole() {
    let all = stdout(&["--csv"]);
    let rows = |args: &[&str]| stdout(&[&["--csv"], args].concat()).lines().skip(1).count();
    for (flag, names) in [
        ("--arch", Arch::ALL.map(Arch::name).to_vec()),
        ("--project", Project::ALL.map(Project::name).to_vec()),
        ("--role", Role::ALL.map(Role::name).to_vec()),
    ] {
        let sum: usize = names.iter().map(|name| rows(&[flag, name])).sum();
        assert_eq!(sum, all.lines().count() - 1, "{flag}");
    }
    assert_eq!(rows(&["--project", "gdrcopy", "--arch", "riscv"]), 0);
}

#[test]
fn json_is_the_library() {
    let it: Value = serde_json::from_str(&stdout(&["--json"])).unwrap();
    assert_eq!(it["fences"].as_array().unwrap().len(), FENCES.len());
    assert_eq!(it["roles"].as_array().unwrap().len(), Arch::ALL.len() * Role::ALL.len());
    let uses = it["practices"].as_array().unwrap();
    assert_eq!(uses.len(), PRACTICES.len());
    let dgh = it["fences"].as_array().unwrap().iter().find(|f| f["name"] == "DGH").unwrap();
    for does in dgh["effects"].as_array().unwrap() {
        assert_eq!(does["standing"], "permitted");
        assert_eq!(does["hint"], does["effect"] == "drains" || does["effect"] == "wc-apart");
        assert!(does["source"].as_str().unwrap().starts_with("DDI 0487"), "{does}");
    }
    for row in uses {
        assert!(["read", "second-hand", "unverified"].contains(&row["checked"].as_str().unwrap()));
        let named = row["effects"].as_array().unwrap().is_empty();
        assert_eq!(!named, row["relation"] == "weaker" || row["relation"] == "stronger", "{row}");
    }
}

#[test]
fn a_wrong_name_is_met_with_the_right_ones() {
    for (args, says) in [
        (["--arch", "arm"], "did you mean arm64?"),
        (["--project", "rdma"], "did you mean rdma-core?"),
        (["--role", "flush"], "wc-flush"),
    ] {
        let out = run(&args);
        assert_eq!(out.status.code(), Some(2));
        let message = String::from_utf8(out.stderr).unwrap();
        assert!(out.stdout.is_empty() && message.contains(says), "{message}");
    }
    assert_eq!(run(&["--csv", "--json"]).status.code(), Some(2));
}
