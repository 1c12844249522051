//! Endpoints kept ready, and what making one costs.

use crate::world::*;
use naru_net::{EndpointRequest, Netns, NetnsSetup, Pooled, WarmPool};
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

#[test]
fn a_pooled_endpoint_is_as_good_as_a_new_one() {
    on_private_host(|| {
        let host = open();
        let spec = network(1, "naru0", "172.17.0.0/16");
        host.ensure(&spec).unwrap();
        let pool = WarmPool::new(spec.clone(), 3);
        assert!(pool.take().is_none());
        pool.refill(&host).unwrap();
        assert_eq!(pool.len(), 3);
        let Pooled { netns, endpoint, .. } = pool.take().unwrap();
        assert_eq!(endpoint.ip, Some(Ipv4Addr::new(172, 17, 0, 2)));
        let pooled = Container { netns, endpoint };
        let fresh = Container::on(&host, &spec);
        assert_eq!(fresh.ip(), Ipv4Addr::new(172, 17, 0, 5), "pooled addresses are taken");
        assert!(reaches(&pooled, &fresh) && reaches(&fresh, &pooled));
        pool.close(&host);
        assert!(pool.take().is_none());
        pool.refill(&host).unwrap();
        assert!(pool.is_empty(), "a closed pool stays empty");
        assert_eq!(Container::on(&host, &spec).ip(), Ipv4Addr::new(172, 17, 0, 3), "its addresses are free");
        drop((pooled, fresh));
        wait_until("only the last one's veth is left", || interfaces().len() <= 2);
    });
}

#[test]
fn what_a_crashed_engine_had_pooled_is_removed() {
    on_private_host(|| {
        let host = open();
        let spec = network(1, "naru0", "172.17.0.0/16");
        host.ensure(&spec).unwrap();
        let pool = WarmPool::new(spec.clone(), 2);
        pool.refill(&host).unwrap();
        drop((pool, host));
        let host = open();
        host.reconcile(std::slice::from_ref(&spec), &[]).unwrap();
        wait_until("its veths are gone", || interfaces() == ["naru0"]);
        assert_eq!(Container::on(&host, &spec).ip(), Ipv4Addr::new(172, 17, 0, 2));
    });
}

fn percentiles(mut samples: Vec<Duration>) -> String {
    samples.sort();
    let at = |p: usize| samples[(samples.len() - 1) * p / 100].as_micros();
    format!("p10 {} p50 {} p90 {} us", at(10), at(50), at(90))
}

/// Figures, with pauses between samples: `cargo test --release -p naru-net --test kernel -- --ignored --nocapture costs`.
#[test]
#[ignore = "prints figures"]
fn costs() {
    on_private_host(|| {
        let host = open();
        let spec = network(1, "naru0", "172.17.0.0/16");
        host.ensure(&spec).unwrap();
        for pause in [0, 60] {
            let (mut make, mut attach, mut warm, mut publish) = (vec![], vec![], vec![], vec![]);
            let pool = WarmPool::new(spec.clone(), 1);
            for n in 0..60u16 {
                std::thread::sleep(Duration::from_millis(pause));
                let start = Instant::now();
                let netns = Netns::create(&NetnsSetup::container()).unwrap();
                make.push(start.elapsed());
                let start = Instant::now();
                let endpoint = host.attach(&spec, &netns, &EndpointRequest::default()).unwrap();
                attach.push(start.elapsed());
                let port = naru_net::Published {
                    protocol: naru_net::Protocol::Tcp,
                    host_ip: Ipv4Addr::new(198, 51, 100, 7).into(),
                    host_port: 1000 + n,
                    container_ip: endpoint.ip.unwrap().into(),
                    container_port: 80,
                };
                let start = Instant::now();
                host.publish(std::slice::from_ref(&port)).unwrap();
                publish.push(start.elapsed());
                pool.refill(&host).unwrap();
                std::thread::sleep(Duration::from_millis(pause));
                let start = Instant::now();
                let pooled = pool.take().unwrap();
                warm.push(start.elapsed());
                host.unpublish(&[port]).unwrap();
                host.detach(&endpoint);
                host.detach(&pooled.endpoint);
            }
            println!("pause {pause} ms");
            for (what, samples) in [("netns", make), ("attach", attach), ("publish", publish), ("pooled", warm)] {
                println!("  {what:8} {}", percentiles(samples));
            }
        }
    });
}
