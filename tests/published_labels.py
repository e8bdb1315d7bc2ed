"""Names of labels as published data sets and models spell them."""

from __future__ import annotations


def words(text: str) -> list[str]:
    return text.split()


TOTALSEGMENTATOR = [
    *words(
        """
        spleen kidney_right kidney_left gallbladder liver stomach pancreas adrenal_gland_right adrenal_gland_left
        lung_upper_lobe_left lung_lower_lobe_left lung_upper_lobe_right lung_middle_lobe_right lung_lower_lobe_right
        esophagus trachea thyroid_gland small_bowel duodenum colon urinary_bladder prostate kidney_cyst_left
        kidney_cyst_right sacrum vertebrae_S1
        """
    ),
    *(f"vertebrae_{part}{n}" for part, count in (("L", 5), ("T", 12), ("C", 7)) for n in range(1, count + 1)),
    *words(
        """
        heart aorta pulmonary_vein brachiocephalic_trunk subclavian_artery_right subclavian_artery_left
        common_carotid_artery_right common_carotid_artery_left brachiocephalic_vein_left brachiocephalic_vein_right
        atrial_appendage_left superior_vena_cava inferior_vena_cava portal_vein_and_splenic_vein iliac_artery_left
        iliac_artery_right iliac_vena_left iliac_vena_right humerus_left humerus_right scapula_left scapula_right
        clavicula_left clavicula_right femur_left femur_right hip_left hip_right spinal_cord gluteus_maximus_left
        gluteus_maximus_right gluteus_medius_left gluteus_medius_right gluteus_minimus_left gluteus_minimus_right
        autochthon_left autochthon_right iliopsoas_left iliopsoas_right brain skull
        """
    ),
    *(f"rib_{side}_{n}" for side in ("left", "right") for n in range(1, 13)),
    *words("sternum costal_cartilages"),
]
"""The classes of its task `total`, version 2."""
BOTH = [
    *words(
        """
        eye eye_lens optic_nerve parotid_gland submandibular_gland nasal_cavity auditory_canal zygomatic_arch
        styloid_process internal_carotid_artery internal_jugular_vein masseter temporalis lateral_pterygoid
        medial_pterygoid digastric sternocleidomastoid trapezius platysma levator_scapulae anterior_scalene
        middle_scalene posterior_scalene sterno_thyroid thyrohyoid prevertebral eyeball lateral_rectus_muscle
        superior_oblique_muscle levator_palpebrae_superioris superior_rectus_muscle medial_rectus_muscle
        inferior_oblique_muscle inferior_rectus_muscle quadriceps_femoris thigh_medial_compartment
        thigh_posterior_compartment sartorius lung ventricle_frontal_horn ventricle_occipital_horn ventricle_body
        ventricle_temporal_horn ventricle_trigone pectoralis_major rectus_abdominis serratus_anterior latissimus_dorsi
        external_oblique internal_oblique erector_spinae transversospinalis psoas_major quadratus_lumborum
        """
    ),
]
"""Of its other tasks, those that have a left and a right one."""
SUBTASKS = [
    *(f"{name}_{side}" for name in BOTH for side in ("left", "right")),
    *words(
        """
        lung_vessels lung_trachea_bronchia lung_nodules lung_covid_infiltrate intracerebral_hemorrhage hip_implant
        coronary_arteries body_trunc body_extremities body pleural_effusion pericardial_effusion liver_vessels
        liver_tumor vertebrae_body intervertebral_discs vertebrae heart_myocardium heart_atrium_left
        heart_ventricle_left heart_atrium_right heart_ventricle_right pulmonary_artery patella tibia fibula tarsal
        metatarsal phalanges_feet ulna radius carpal metacarpal phalanges_hand subcutaneous_fat torso_fat
        skeletal_muscle intermuscular_fat face brainstem subarachnoid_space venous_sinuses septum_pellucidum cerebellum
        caudate_nucleus lentiform_nucleus insular_cortex internal_capsule ventricle central_sulcus frontal_lobe
        parietal_lobe occipital_lobe temporal_lobe thalamus nasopharynx oropharynx hypopharynx soft_palate hard_palate
        larynx_air thyroid_cartilage hyoid cricoid_cartilage tongue superior_pharyngeal_constrictor
        middle_pharyngeal_constrictor inferior_pharyngeal_constrictor deltoid supraspinatus infraspinatus subscapularis
        coracobrachial pectoralis_minor teres_major triceps_brachii breast third_ventricle fourth_ventricle
        left_ventricular_outflow_tract right_coronary_cusp left_coronary_cusp non_coronary_cusp teeth_lower teeth_upper
        mandible head sinus_maxillary sinus_frontal abdominal_cavity thoracic_cavity pericardium mediastinum
        """
    ),
    *(f"liver_segment_{n}" for n in range(1, 9)),
]
AMOS = [
    *("spleen", "right kidney", "left kidney", "gall bladder", "esophagus", "liver", "stomach", "arota", "postcava"),
    *("pancreas", "right adrenal gland", "left adrenal gland", "duodenum", "bladder", "prostate/uterus"),
]
"""As its own dataset.json spells them."""
BTCV = [
    *("spleen", "right kidney", "left kidney", "gallbladder", "esophagus", "liver", "stomach", "aorta"),
    *("inferior vena cava", "portal vein and splenic vein", "pancreas", "right adrenal gland", "left adrenal gland"),
]
OTHERS = [
    *("WT", "TC", "ET", "NCR", "ED", "NET", "NCR/NET", "whole tumour", "tumour core", "enhancing tumour", "edema"),
    *("non-enhancing tumor", "liver lesion", "liver tumour", "lymphoma lesion", "lymphoma", "retinal artery"),
    *("retinal vein", "artery", "vein", "vessel", "skin lesion", "lesion", "colon cancer primaries", "RV", "Myo", "LV"),
    *("PZ", "TZ", "hepatic vessel", "lung cancer", "hippocampus", "left atrium", "kidney tumor", "optic disc"),
]
