//! Prints what nvml-wrapper says of the GPUs, a key and a value a line, and then
//! the next Xid of any of them.

use nvml_wrapper::bitmasks::event::EventTypes;
use nvml_wrapper::enum_wrappers::device::{Clock, TemperatureSensor};
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::Nvml;

fn main() -> Result<(), NvmlError> {
    let nvml = Nvml::builder().lib_path("libnvidia-ml.so.1".as_ref()).init()?;
    let mut set = nvml.create_event_set()?;
    println!("driver={}", nvml.sys_driver_version()?);
    for i in 0..nvml.device_count()? {
        let d = nvml.device_by_index(i)?;
        let memory = d.memory_info()?;
        println!("{i}.name={}", d.name()?);
        println!("{i}.uuid={}", d.uuid()?);
        println!("{i}.bus={}", d.pci_info()?.bus_id);
        println!("{i}.memory={}", memory.total);
        println!("{i}.memory_used={}", memory.used);
        println!("{i}.temperature={}", d.temperature(TemperatureSensor::Gpu)?);
        println!("{i}.power={}", d.power_usage()?);
        println!("{i}.clock_sm={}", d.clock_info(Clock::SM)?);
        println!("{i}.utilization_gpu={}", d.utilization_rates()?.gpu);
        println!("{i}.cores={}", d.num_cores()?);
        let pids: Vec<String> = d.running_compute_processes()?.iter().map(|p| p.pid.to_string()).collect();
        println!("{i}.pids={}", pids.join(","));
        set = d.register_events(EventTypes::CRITICAL_XID_ERROR, set).map_err(|e| e.error)?;
    }
    println!("waiting");
    let event = set.wait(60_000)?;
    println!("xid={:?} of {}", event.event_data, event.device.uuid()?);
    Ok(())
}
