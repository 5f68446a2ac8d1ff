// SPDX-License-Identifier: GPL-2.0
/*
 * A fixture of edgeprof's virtual boards: a cpufreq policy per cluster, and a thermal zone whose temperature is a module
 * parameter and which slows the clusters down. It runs in a virtual machine of the tests alone. This file alone is under
 * the GPL, because the kernel's interfaces that it uses are exported to GPL modules only.
 */
#include <linux/cpu.h>
#include <linux/cpufreq.h>
#include <linux/err.h>
#include <linux/module.h>
#include <linux/thermal.h>

#define PASSIVE_TRIP_MC 80000
#define CRITICAL_TRIP_MC 110000
#define MAX_CPUS 8

static int temp_mc = 45000;
module_param(temp_mc, int, 0644);
MODULE_PARM_DESC(temp_mc, "what the zone cpu-thermal reports, in millidegrees Celsius");

static int little_first = 2;
module_param(little_first, int, 0444);
MODULE_PARM_DESC(little_first, "first processor of the second cluster");

static unsigned int current_khz[MAX_CPUS];
static struct cpufreq_frequency_table frequencies[] = {
	{ .frequency = 600000 }, { .frequency = 1000000 }, { .frequency = 1500000 },
	{ .frequency = 1800000 }, { .frequency = CPUFREQ_TABLE_END },
};

static int vboard_policy(struct cpufreq_policy *policy)
{
	unsigned int cpu;
	bool big = policy->cpu < little_first;
	unsigned int first = big ? 0 : little_first, end = big ? little_first : nr_cpu_ids;

	if (end > MAX_CPUS)
		return -EINVAL;
	for (cpu = first; cpu < end; cpu++) {
		cpumask_set_cpu(cpu, policy->cpus);
		current_khz[cpu] = frequencies[0].frequency;
	}
	policy->freq_table = frequencies;
	policy->cpuinfo.transition_latency = 300000;
	return 0;
}

static int vboard_set(struct cpufreq_policy *policy, unsigned int index)
{
	unsigned int cpu;

	for_each_cpu(cpu, policy->cpus)
		current_khz[cpu] = frequencies[index].frequency;
	return 0;
}

static unsigned int vboard_get(unsigned int cpu)
{
	return current_khz[cpu] ? current_khz[cpu] : frequencies[0].frequency;
}

static struct cpufreq_driver driver = {
	.name = "vboard-cpufreq",
	.flags = CPUFREQ_NEED_INITIAL_FREQ_CHECK | CPUFREQ_HAVE_GOVERNOR_PER_POLICY | CPUFREQ_IS_COOLING_DEV,
	.init = vboard_policy,
	.verify = cpufreq_generic_frequency_table_verify,
	.target_index = vboard_set,
	.get = vboard_get,
	.attr = cpufreq_generic_attr,
};

static int zone_temp(struct thermal_zone_device *zone, int *temp)
{
	*temp = temp_mc;
	return 0;
}

static int zone_trip_type(struct thermal_zone_device *zone, int trip, enum thermal_trip_type *type)
{
	*type = trip ? THERMAL_TRIP_CRITICAL : THERMAL_TRIP_PASSIVE;
	return 0;
}

static int zone_trip_temp(struct thermal_zone_device *zone, int trip, int *temp)
{
	*temp = trip ? CRITICAL_TRIP_MC : PASSIVE_TRIP_MC;
	return 0;
}

static int zone_bind(struct thermal_zone_device *zone, struct thermal_cooling_device *cooling)
{
	if (strncmp(cooling->type, "cpufreq", 7))
		return 0;
	return thermal_zone_bind_cooling_device(zone, 0, cooling, THERMAL_NO_LIMIT, THERMAL_NO_LIMIT,
						THERMAL_WEIGHT_DEFAULT);
}

static int zone_unbind(struct thermal_zone_device *zone, struct thermal_cooling_device *cooling)
{
	thermal_zone_unbind_cooling_device(zone, 0, cooling);
	return 0;
}

static struct thermal_zone_device_ops zone_ops = {
	.bind = zone_bind,
	.unbind = zone_unbind,
	.get_temp = zone_temp,
	.get_trip_type = zone_trip_type,
	.get_trip_temp = zone_trip_temp,
};
static struct thermal_zone_device *zone;

static int __init vboard_init(void)
{
	int failed = cpufreq_register_driver(&driver);

	if (failed)
		return failed;
	/* Two trips; asked every 500 ms while a trip is passed, else every second. */
	zone = thermal_zone_device_register("cpu-thermal", 2, 0, NULL, &zone_ops, NULL, 500, 1000);
	if (IS_ERR(zone)) {
		cpufreq_unregister_driver(&driver);
		return PTR_ERR(zone);
	}
	return thermal_zone_device_enable(zone);
}

static void __exit vboard_exit(void)
{
	thermal_zone_device_unregister(zone);
	cpufreq_unregister_driver(&driver);
}

module_init(vboard_init);
module_exit(vboard_exit);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("edgeprof test fixture: clusters with clocks, and a thermal zone to be set");
