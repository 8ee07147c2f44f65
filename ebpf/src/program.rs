//! What every BPF object has beside its programs.

/// A panic handler, and the licence that the kernel asks for.
#[macro_export]
macro_rules! program {
    () => {
        #[panic_handler]
        fn panic(_: &core::panic::PanicInfo) -> ! {
            // Cannot be reached: the verifier refuses a program in which it could.
            loop {}
        }

        /// The helpers that are called are open to programs under a GPL-compatible licence.
        #[unsafe(link_section = "license")]
        #[unsafe(no_mangle)]
        static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
    };
}
