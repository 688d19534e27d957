// Package home is the physics of firmware-sim: what the sun, the clouds, a
// household and a battery do to the energy that flows through a house.
//
// # Units and signs
//
// Power is [MilliWatts], time is Unix milliseconds of community time, energy
// inside a step is [MicroJoules] (one milliwatt for one millisecond) and energy
// that has been counted is [MilliWattHours] (3.6 J). All of them are int64.
// Load and solar production are never negative. Charging is what the battery
// takes at its terminals, discharging what it gives there, both never negative
// and never both in one step. Import and export are seen from the street: what
// the house takes from it and what it gives to it.
//
// # Invariants
//
//	H1  In every step, exactly and in integers:
//	    import − export = load − solar + charge − discharge.
//	H2  A counter never falls.
//	H3  0 ≤ stored ≤ capacity, and a step charges or discharges no more than the
//	    battery's power times the step's length. Nothing is given out of what lies
//	    below the battery's floor or a control's reserve.
//	H4  A battery never creates energy. Exactly and in integers:
//	    stored = stored at the beginning + charge − discharge − lost,
//	    and lost never falls.
//	H5  No sun, no solar production; production and what was curtailed are
//	    together what the sun could give.
//	H6  The state at an instant is a function of the configuration, the seed, that
//	    instant, and the commands before it: a History made anew and given the same
//	    commands gives the same integers. (On the same kind of processor: some fuse
//	    a multiplication with an addition, and a model's watts may then round to
//	    another milliwatt.)
//	H7  A control is obeyed as far as battery and panels can, in the order of
//	    wishes that [Control] states. A command changes nothing before its time.
//
// # Commands
//
// An inverter is told a [Control] for a piece of time; a [Plan] is the sequence
// of them, with all that follows by timers if nobody says more. Steps are cut
// where a control begins or ends, so that a lease of 37 s holds for 37 s,
// whatever the refresh period.
//
// # How floats stay out of the books
//
// The models (sun, clouds, appliances) think in float64 watts, and a CSV file
// holds decimals. Each of them is rounded ONCE to whole milliwatts that hold
// for a piece of time (a minute of a household, three minutes of the sky, one
// row of a file). From there on everything is integer: a step's energy in
// microjoules is an exact sum over those pieces, it is turned into whole
// milliwatt-hours with the remainder carried to the next step, the battery
// decides in whole milliwatt-hours, and what the street sees is the difference
// of these whole numbers. So H1 holds by construction and not within a
// tolerance, and a load's total does not depend on how time was cut into steps.
//
// # Ownership and errors
//
// Nothing here starts a goroutine, reads a clock or does I/O. A [Home] keeps a
// cache of the last days and belongs to one goroutine at a time; a [History]
// has a lock and may be used by many. [ReadProfile] fails with an error that
// names the line; nothing else can fail but by the context's end.
package home
